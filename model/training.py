"""The training loop, one for pretraining and for institutions: what requires a gradient is trained, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from model.loss import LogitAdjustment, Loss
from model.routing import update_bias
from model.transformer import DeepseekV3

BETAS = (0.9, 0.95)
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """input_ids, targets (-100 where nothing is to be learnt) and valid (False at padding) [b, t]; padding is on the right."""

    input_ids: Tensor
    targets: Tensor
    valid: Tensor
    adjustment: LogitAdjustment | None = None


@dataclass(slots=True)
class TrainingResult:
    """Sums over the steps taken."""

    loss_sum: float = 0.0  # each step's mean main loss times its records
    examples: int = 0
    target_tokens: int = 0
    expert_counts: dict[int, Tensor] = field(default_factory=dict)  # layer -> tokens per expert, [E] int64

    def add(self, batch: Batch, loss: Loss) -> None:
        self.loss_sum += float(loss.main.detach()) * len(batch.input_ids)
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


def train(
    net: DeepseekV3,
    batches: Iterable[Batch],
    *,
    learning_rate: float | Callable[[int], float],
    weight_decay: float = 0.0,
    proximal: float = 0.0,
    terms: LossTerms | None = None,
    on_step: Callable[[int, Loss], None] | None = None,
) -> TrainingResult:
    """One step of a fresh AdamW (Loshchilov and Hutter 2019) per batch on every parameter that requires a gradient.

    learning_rate may depend on the step, counted from 1. `proximal` adds FedProx's pull to the starting point (Li et al.
    2020). A parameter without a gradient in a step, such as an expert without tokens, is neither moved nor decayed in it.
    Only matrices are decayed.
    """
    terms, result = terms or LossTerms(), TrainingResult()
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = _adamw(parameters, weight_decay)
    start = [parameter.detach().clone() for parameter in parameters] if proximal else []
    for step, batch in enumerate(batches, start=1):
        loss = net.loss(
            batch.input_ids,
            batch.targets,
            valid=batch.valid,
            mtp_weight=terms.mtp_weight,
            balance_weight=terms.balance_weight,
            adjustment=batch.adjustment,
        )
        loss.total.backward()
        _pull_back(parameters, start, proximal)
        torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step) if callable(learning_rate) else learning_rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if terms.bias_update_speed:
            balance_load(net, loss.expert_counts, terms.bias_update_speed)
        result.add(batch, loss)
        if on_step is not None:
            on_step(step, loss)
    return result


@torch.no_grad()
def balance_load(net: DeepseekV3, counts: dict[int, Tensor], speed: float) -> None:
    """Moves every router's selection bias against its load; counts [E] per layer are those of the whole batch."""
    for layer, router in net.routers().items():
        update_bias(router, counts[layer], speed)


def _adamw(parameters: list[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    matrices = [parameter for parameter in parameters if parameter.dim() > 1]
    vectors = [parameter for parameter in parameters if parameter.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], betas=BETAS, fused=True)


@torch.no_grad()
def _pull_back(parameters: list[nn.Parameter], start: list[Tensor], proximal: float) -> None:
    for parameter, origin in zip(parameters, start, strict=False):
        if parameter.grad is not None:
            parameter.grad.add_(parameter - origin, alpha=proximal)
