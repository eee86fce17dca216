"""The training loop, one for pretraining and for institutions: what requires a gradient is trained, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial, reduce

import torch
from torch import Tensor, nn

from model.errors import ConfigError
from model.loss import IGNORED, LogitAdjustment, Loss, TargetCounts, count_targets, wanted
from model.parallel import Peers
from model.progress import Keeper
from model.resuming import go_on, progress_of
from model.routing import update_bias
from model.transformer import DeepseekV3

BETAS = (0.9, 0.95)
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """input_ids, targets (-100 where nothing is to be learnt) and valid (False at padding) [b, t]; padding is on the right.

    segments [b, t], where rows are packed, numbers the documents in each.
    """

    input_ids: Tensor
    targets: Tensor
    valid: Tensor
    adjustment: LogitAdjustment | None = None
    segments: Tensor | None = None

    def rows(self, start: int, end: int) -> Batch:
        """The batch of rows `start` to `end` alone; behind the last row stands one without tokens to learn or count."""
        if start >= len(self.input_ids):
            return Batch(self.input_ids[:1], torch.full_like(self.targets[:1], IGNORED), torch.zeros_like(self.valid[:1]))
        adjustment, targets = self.adjustment, wanted(self.targets, 1, self.segments)
        if adjustment is not None:
            before = int(targets[:start].sum())
            adjustment = adjustment.within(before, before + int(targets[start:end].sum()))
        segments = None if self.segments is None else self.segments[start:end]
        return Batch(self.input_ids[start:end], self.targets[start:end], self.valid[start:end], adjustment, segments)


@dataclass(slots=True)
class TrainingResult:
    """Sums over the steps taken."""

    loss_sum: float = 0.0  # each step's mean main loss times its records
    examples: int = 0
    target_tokens: int = 0
    expert_counts: dict[int, Tensor] = field(default_factory=dict)  # layer -> tokens per expert, [E] int64

    def add(self, batch: Batch, loss: Loss) -> None:
        self.loss_sum += float(loss.main) * len(batch.input_ids)
        self.examples += len(batch.input_ids)
        self.target_tokens += loss.target_tokens
        for layer, counts in loss.expert_counts.items():
            self.expert_counts[layer] = self.expert_counts.get(layer, torch.zeros_like(counts)) + counts


@dataclass(frozen=True, slots=True)
class LossTerms:
    """Weights of the further terms of the loss, and the speed of aux-loss-free balancing (0 freezes the router's bias)."""

    mtp_weight: float = 0.3
    balance_weight: float = 0.0
    bias_update_speed: float = 0.0


@dataclass(frozen=True, slots=True)
class Execution:
    """How steps are computed, not what they compute: none of it changes a result but by rounding."""

    compute_dtype: torch.dtype | None = None  # of the activations; what is trained stays float32. None: the network's own
    micro_batch: int | None = None  # rows whose activations exist at the same time; None: all of a batch
    checkpointing: bool = False  # compute each block's activations again in the backward pass
    peers: Peers | None = None  # other processes that take the same steps, each with its share of every batch


def train(
    net: DeepseekV3,
    batches: Iterable[Batch],
    *,
    learning_rate: float | Callable[[int], float],
    weight_decay: float = 0.0,
    proximal: float = 0.0,
    terms: LossTerms | None = None,
    execution: Execution | None = None,
    corrections: Mapping[nn.Parameter, Tensor] | None = None,
    on_step: Callable[[int, Loss], None] | None = None,
    keeper: Keeper | None = None,
) -> TrainingResult:
    """One step of a fresh AdamW (Loshchilov and Hutter 2019) per batch on every parameter that requires a gradient.

    learning_rate may depend on the step, counted from 1. `proximal` adds FedProx's pull to the starting point (Li et al.
    2020). A parameter without a gradient in a step, such as an expert without tokens, is neither moved nor decayed in it.
    Only matrices are decayed. `corrections` are SCAFFOLD's (Karimireddy et al. 2020, option II, with the optimiser's displacement
    in the gradient's place): after a step each parameter named moves by -learning_rate times its own too, where the step moved it.
    Of a correction larger than its parameter, as where a rank is held, the leading part counts.
    Where `keeper` has the progress of the same training, steps are counted on from there, and `batches` are those that follow.

    Raises:
        ConfigError: the router's bias is to be moved and the network has none, or a keeper is to keep it.
    """
    terms, execution, result = terms or LossTerms(), execution or Execution(), TrainingResult()
    if terms.bias_update_speed:
        refuse_unbiased(net)
        if keeper is not None:
            raise ConfigError("A training that moves the router's bias cannot be kept and gone on with: set bias_update_speed to 0.")
    execution = replace(execution, compute_dtype=execution.compute_dtype or net.dtype)
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    with _in_float32(parameters):
        optimizer = adamw(parameters, weight_decay)
        start = [parameter.detach().clone() for parameter in parameters] if proximal else []
        first = go_on(keeper, parameters, optimizer, result)
        for step, batch in enumerate(batches, start=first):
            loss = accumulate_gradients(net, batch, terms, execution)
            pull_back(parameters, start, proximal)
            torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
            rate = learning_rate(step) if callable(learning_rate) else learning_rate
            set_rate(optimizer, rate)
            optimizer.step()
            correct(parameters, corrections or {}, rate)
            optimizer.zero_grad(set_to_none=True)
            if terms.bias_update_speed:
                balance_load(net, loss.expert_counts, terms.bias_update_speed)
            result.add(batch, loss)
            if keeper is not None:
                keeper.after_step(partial(progress_of, step, parameters, optimizer, result))
            if on_step is not None:
                on_step(step, loss)
    return result


@contextmanager
def _in_float32(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Master weights: a small step would be lost in a bfloat16 weight. Afterwards each has its own type again, and no gradient."""
    types = [parameter.dtype for parameter in parameters]
    for parameter in parameters:
        parameter.grad, parameter.data = None, parameter.data.float()
    try:
        yield
    finally:
        for parameter, dtype in zip(parameters, types, strict=True):
            parameter.grad, parameter.data = None, parameter.data.to(dtype)


def accumulate_gradients(net: DeepseekV3, batch: Batch, terms: LossTerms, execution: Execution) -> Loss:
    """Adds the gradients of a batch's loss, a micro-batch at a time; the loss of the whole batch, without a graph."""
    rows = len(batch.input_ids)
    mine = execution.peers.share(rows) if execution.peers else range(rows)
    size = execution.micro_batch or len(mine)
    in_parts = execution.peers is not None or size < rows
    whole = count_targets(batch.targets, batch.segments, len(net.mtp)) if in_parts else None
    parts = [batch.rows(first, min(first + size, mine.stop)) for first in mine[::size]] if in_parts else [batch]
    loss = reduce(Loss.plus, [_backward(net, part, terms, execution, whole) for part in parts])
    if execution.peers:
        execution.peers.sum_gradients([parameter for parameter in net.parameters() if parameter.requires_grad])
        loss = execution.peers.sum_loss(loss)
    return loss


def _backward(net: DeepseekV3, batch: Batch, terms: LossTerms, execution: Execution, whole: TargetCounts | None) -> Loss:
    loss = net.loss(
        batch.input_ids,
        batch.targets,
        valid=batch.valid,
        segments=batch.segments,
        mtp_weight=terms.mtp_weight,
        balance_weight=terms.balance_weight,
        adjustment=batch.adjustment,
        whole=whole,
        compute_dtype=execution.compute_dtype,
        checkpointing=execution.checkpointing,
    )
    if loss.total.requires_grad:  # not where single experts alone are trained, and no token went to one
        loss.total.backward()
    return loss.detached()


def refuse_unbiased(net: DeepseekV3) -> None:
    """Raises ConfigError if a router has no selection bias, as in DeepSeek-V2."""
    if not all(router.biased for router in net.routers().values()):
        raise ConfigError("This network has no selection bias to move: set bias_update_speed to 0, and balance_weight above it.")


@torch.no_grad()
def balance_load(net: DeepseekV3, counts: dict[int, Tensor], speed: float) -> None:
    """Moves every router's selection bias against its load; counts [E] per layer are those of the whole batch."""
    for layer, router in net.routers().items():
        update_bias(router, counts[layer], speed)


def adamw(parameters: list[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    matrices = [parameter for parameter in parameters if parameter.dim() > 1]
    vectors = [parameter for parameter in parameters if parameter.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], betas=BETAS, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


@torch.no_grad()
def pull_back(parameters: list[nn.Parameter], start: list[Tensor], proximal: float) -> None:
    for parameter, origin in zip(parameters, start, strict=False):
        if parameter.grad is not None:
            parameter.grad.add_(parameter - origin, alpha=proximal)


@torch.no_grad()
def correct(parameters: list[nn.Parameter], corrections: Mapping[nn.Parameter, Tensor], rate: float) -> None:
    for parameter in parameters:
        if parameter.grad is not None and parameter in corrections:
            correction = corrections[parameter][tuple(slice(size) for size in parameter.shape)]
            parameter.add_(correction.to(parameter.device), alpha=-rate)
