"""Exact gradients of single records, or of units of several, from one forward and backward pass over a batch of them.

For record-level DP-SGD (Abadi et al. 2016). A record's loss is the mean cross entropy over its own target tokens, plus the mean over
its own targets of each multi-token prediction module: no other record has a part in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from model.adapters import trained_parameters
from model.errors import ConfigError
from model.gradient_taps import Taps, tapped
from model.loss import LOGITS, LogitAdjustment, adjusted_logits, select_targets, wanted
from model.objective import also_ahead
from model.routing import expert_counts
from model.training import Batch, Execution, LossTerms
from model.transformer import DeepseekV3
from model.unit_sums import Owners, Shapes, UnitSums, by_name

_BELOW = 1 - 2.0**-20  # a clipped gradient stays below the bound through the rounding of its elements to float32


@dataclass(frozen=True, slots=True)
class UnitGradients:
    """Gradients `flat` [u, d] float32 of u units, tensors in the order of their sorted names; a gradient that is not finite is zero.

    What else is here says something of the records: it is for the institution's own eyes.
    """

    flat: Tensor
    shapes: Shapes
    norms: Tensor  # [u] float64, over all tensors together
    loss_sum: float  # of the records' mean main losses
    examples: int
    target_tokens: int
    expert_counts: dict[int, Tensor] = field(default_factory=dict)  # layer -> tokens per expert, [E] int64

    @property
    def gradients(self) -> dict[str, Tensor]:
        """Tensor name -> [u, *shape], views."""
        return by_name(self.flat, self.shapes)

    def factors(self, clip: float) -> Tensor:
        """What makes each unit's norm at most `clip`: min(1, clip / norm), [u] float64."""
        return torch.where(self.norms <= clip, 1.0, clip * _BELOW / self.norms)


def unit_gradients(
    net: DeepseekV3, batch: Batch, units: Tensor, terms: LossTerms, execution: Execution | None = None, count: int | None = None
) -> UnitGradients:
    """Gradients of each unit's loss, the mean over its records in the batch, by every adapter tensor that requires a gradient.

    units [b] int64 names each row's unit, 0 to u - 1; `count` is u where units without rows come last. Memory grows by u copies of
    what is trained: small for LoRA factors, large where single experts are trained in full.

    Raises:
        ConfigError: terms, rows or execution join records: a balance loss, a moving bias, packed documents, peers.
        AdapterError: no adapter is attached, or one of its tensors is trained in full and is neither a norm nor an expert.
    """
    execution = execution or Execution()
    _refuse_joined(batch, terms, execution)
    trained = trained_parameters(net)
    count = int(units.max()) + 1 if count is None else count
    sums = UnitSums({name: tuple(parameter.shape) for name, parameter in trained.items()}, count, batch.input_ids.device)
    share = 1.0 / torch.bincount(units, minlength=count)[units]  # [b] of a record in its unit
    size, rows, losses, counts = execution.micro_batch or len(units), len(units), 0.0, dict[int, Tensor]()
    with tapped(net, trained, sums) as taps:
        for first in range(0, rows, size):
            part, chosen = batch.rows(first, min(first + size, rows)) if size < rows else batch, slice(first, first + size)
            loss, routed = _backward(net, taps, part, units[chosen], share[chosen], terms, execution)
            losses += loss
            counts = {layer: counts[layer] + routed[layer] if counts else routed[layer] for layer in routed}
    targets = int(wanted(batch.targets, 1, None).sum())
    return UnitGradients(sums.flat, sums.shapes, _finite_norms(sums.flat), losses, rows, targets, counts)


def clipped_sum(gradients: UnitGradients, clip: float) -> dict[str, Tensor]:
    """The sum over units of g min(1, clip / |g|), by tensor name: one unit more or less changes its norm by `clip` at most."""
    return by_name(flat_clipped_sum(gradients, clip), gradients.shapes)


def flat_clipped_sum(gradients: UnitGradients, clip: float) -> Tensor:
    """The same as one vector [d]."""
    return gradients.factors(clip).float() @ gradients.flat


def _refuse_joined(batch: Batch, terms: LossTerms, execution: Execution) -> None:
    if terms.balance_weight or terms.bias_update_speed:
        raise ConfigError("Balancing experts joins the gradients of records: set balance_weight and bias_update_speed to 0.")
    if batch.segments is not None:
        raise ConfigError("A packed row holds several documents, whose gradients cannot be told apart: give each record a row.")
    if execution.peers is not None:
        raise ConfigError("Gradients of single records are computed in one process: leave peers out.")


def _finite_norms(flat: Tensor) -> Tensor:
    """Norms [u] in float64; a unit whose gradient is not finite is set to zero in place, for no factor could bound its part."""
    norms: Tensor = torch.linalg.vector_norm(flat, dim=1, dtype=torch.float64)
    broken = ~norms.isfinite()
    if broken.any():
        flat[broken], norms[broken] = 0.0, 0.0
    return norms


def _backward(
    net: DeepseekV3, taps: Taps, batch: Batch, units: Tensor, share: Tensor, terms: LossTerms, execution: Execution
) -> tuple[float, dict[int, Tensor]]:
    """Sums the gradients of some rows; their main losses' sum and routed tokens."""
    taps.rows = Owners(units)
    hidden = net.hidden(
        batch.input_ids,
        ahead=terms.mtp_weight > 0,
        compute_dtype=execution.compute_dtype,
        checkpointing=execution.checkpointing,
    )
    reached, gradients, main = [], [], 0.0
    for depth, states in enumerate([hidden.main, *hidden.mtp]):
        selected, tokens = select_targets(states, batch.targets, depth + 1)
        weight = terms.mtp_weight / len(net.mtp) if depth else 1.0
        targets = _targets(batch, tokens, units, share * weight, depth)
        loss, gradient = _head_backward(net, taps, selected.detach(), targets)
        main += 0.0 if depth else loss
        if selected.requires_grad:  # not where the output head alone is trained
            reached.append(selected)
            gradients.append(gradient)
    if reached:
        torch.autograd.backward(reached, gradients)
    return main, expert_counts(hidden.routings, batch.valid)


@dataclass(frozen=True, slots=True)
class _Targets:
    """n target tokens of one depth [n], each one's unit, part in its record's mean, and that record's weight."""

    tokens: Tensor
    units: Tensor
    parts: Tensor
    weights: Tensor
    adjustment: LogitAdjustment | None

    def chunks(self, size: int) -> Iterator[tuple[slice, _Targets]]:
        for start in range(0, len(self.tokens), size):
            part = slice(start, min(start + size, len(self.tokens)))
            adjustment = self.adjustment.within(part.start, part.stop) if self.adjustment else None
            yield part, _Targets(self.tokens[part], self.units[part], self.parts[part], self.weights[part], adjustment)


def _targets(batch: Batch, tokens: Tensor, units: Tensor, weight: Tensor, depth: int) -> _Targets:
    found = wanted(batch.targets, depth + 1, None)  # [b, t - depth - 1]
    rows = found.nonzero()[:, 0]
    adjustment = batch.adjustment
    if adjustment is not None and depth:
        adjustment = adjustment.subset(also_ahead(batch.targets, depth, None))
    return _Targets(tokens, units[rows], 1.0 / found.sum(1)[rows], weight[rows], adjustment)


def _head_backward(net: DeepseekV3, taps: Taps, states: Tensor, targets: _Targets) -> tuple[float, Tensor]:
    """The sum of the records' means, and the gradient of their weighted sum by states [n, H]; chunk by chunk, see `model.loss.LOGITS`."""
    total, gradient = 0.0, torch.zeros_like(states)
    for part, chunk in targets.chunks(max(LOGITS // net.lm_head.out_features, 1)):
        leaf = states[part].requires_grad_()
        taps.tokens = Owners.of_tokens(chunk.units)
        logits = adjusted_logits(leaf, net.lm_head, chunk.adjustment)
        losses = F.cross_entropy(logits, chunk.tokens, reduction="none") * chunk.parts
        (gradient[part],) = torch.autograd.grad((losses * chunk.weights).sum(), leaf)
        total += float(losses.detach().sum())
    return total, gradient
