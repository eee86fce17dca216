"""DP-SGD (Abadi et al. 2016): steps on clipped gradients of units and noise, so that no unit's presence shows in what is trained.

Each step's sum of clipped unit gradients gets Gaussian noise and is divided by a constant; AdamW then works on that alone. Units are
drawn by the caller, as the privacy accounting supposes it. All of a unit's rows in a step stand in one `UnitBatch`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.adapters import trained_parameters
from model.errors import ConfigError
from model.per_example import UnitGradients, flat_clipped_sum, unit_gradients
from model.progress import Keeper
from model.resuming import go_on, progress_of
from model.training import Batch, Execution, LossTerms, TrainingResult, adamw, correct, pull_back, set_rate
from model.transformer import DeepseekV3
from model.unit_sums import by_name


@dataclass(frozen=True, slots=True)
class UnitBatch:
    """Rows of `count` units: units [b] int64 names each row's, 0 to count - 1."""

    batch: Batch
    units: Tensor
    count: int


@dataclass(frozen=True, slots=True)
class PrivateTerms:
    """The Gaussian mechanism of a step: noise of standard deviation noise_multiplier * clip on a sum of sensitivity clip.

    expected_units is a constant, never the number drawn. gaussian(n) gives n standard normal numbers of a cryptographic generator.
    """

    clip: float
    noise_multiplier: float
    expected_units: float
    gaussian: Callable[[int], NDArray[np.float64]]

    def __post_init__(self) -> None:
        if not (0 < self.clip < math.inf and 0 < self.expected_units < math.inf and 0 <= self.noise_multiplier < math.inf):
            raise ConfigError("Private training needs a clip and expected_units above 0 and a noise_multiplier of at least 0, all finite.")


@dataclass(slots=True)
class PrivateResult:
    """What private training tells beside the network: the number of steps is public, the rest is not private and must not be sent."""

    steps: int = 0
    not_for_sending: TrainingResult = field(default_factory=TrainingResult)  # exact losses and counts, for the institution itself


def train_privately(
    net: DeepseekV3,
    steps: Iterable[Sequence[UnitBatch]],
    *,
    learning_rate: float | Callable[[int], float],
    private: PrivateTerms,
    terms: LossTerms | None = None,
    weight_decay: float = 0.0,
    proximal: float = 0.0,
    execution: Execution | None = None,
    corrections: Mapping[nn.Parameter, Tensor] | None = None,
    keeper: Keeper | None = None,
) -> PrivateResult:
    """One step of a fresh AdamW per entry of `steps` on every adapter tensor that requires a gradient; an entry may be empty.

    Every tensor gets noise and moves in every step, also an expert without tokens, or it would tell where tokens went. The rest is
    as in `model.training.train`, but gradients are not clipped again. `proximal`, `weight_decay` and `corrections` must not depend on the
    records but through what was private before. With `keeper`'s progress, `steps` are those that follow; they and `private.gaussian` must
    draw what no earlier step has drawn.

    Raises:
        ConfigError, AdapterError: as `unit_gradients`, before anything has moved in that step.
    """
    terms, execution, result = terms or LossTerms(), execution or Execution(), PrivateResult()
    trained = trained_parameters(net)
    parameters = list(trained.values())
    optimizer = adamw(parameters, weight_decay)
    start = [parameter.detach().clone() for parameter in parameters] if proximal else []
    seen = result.not_for_sending
    first = go_on(keeper, parameters, optimizer, seen)
    result.steps = first - 1
    for number, step in enumerate(steps, start=first):
        total = _clipped_total(net, step, trained, private.clip, terms, execution, seen)
        _set_gradients(trained, (total + _noise(private, total)) / private.expected_units)
        pull_back(parameters, start, proximal)
        rate = learning_rate(number) if callable(learning_rate) else learning_rate
        set_rate(optimizer, rate)
        optimizer.step()
        correct(parameters, corrections or {}, rate)
        optimizer.zero_grad(set_to_none=True)
        result.steps = number
        if keeper is not None:
            keeper.after_step(partial(progress_of, number, parameters, optimizer, seen))
    return result


def clipped_gradients(
    net: DeepseekV3, step: Iterable[UnitBatch], clip: float, terms: LossTerms | None = None, execution: Execution | None = None
) -> Iterator[NDArray[np.float64]]:
    """Each unit's clipped gradient [d], of norm `clip` at most: all trained tensors, flattened, in the order of their sorted names.

    Raises:
        ConfigError, AdapterError: as `unit_gradients`.
    """
    for part in step:
        found = unit_gradients(net, part.batch, part.units, terms or LossTerms(), execution, part.count)
        for gradient, factor in zip(found.flat, found.factors(clip), strict=True):
            clipped: NDArray[np.float64] = (gradient.double() * factor).cpu().numpy()
            yield clipped


def _clipped_total(
    net: DeepseekV3,
    step: Sequence[UnitBatch],
    trained: Mapping[str, nn.Parameter],
    clip: float,
    terms: LossTerms,
    execution: Execution,
    seen: TrainingResult,
) -> Tensor:
    """The step's sum [d] of clipped unit gradients, all zero where nobody was drawn."""
    device = net.model.embed_tokens.weight.device
    total = torch.zeros(sum(parameter.numel() for parameter in trained.values()), device=device)
    for part in step:
        found = unit_gradients(net, part.batch, part.units, terms, execution, part.count)
        total += flat_clipped_sum(found, clip)
        _note(seen, found)
    return total


def _noise(private: PrivateTerms, total: Tensor) -> Tensor:
    """Float64 on the total's device."""
    return torch.from_numpy(private.gaussian(len(total))).to(total.device) * (private.noise_multiplier * private.clip)


def _set_gradients(trained: Mapping[str, nn.Parameter], flat: Tensor) -> None:
    shapes = {name: tuple(parameter.shape) for name, parameter in trained.items()}
    for name, gradient in by_name(flat.float(), shapes).items():
        trained[name].grad = gradient.clone()


def _note(seen: TrainingResult, found: UnitGradients) -> None:
    seen.loss_sum += found.loss_sum
    seen.examples += found.examples
    seen.target_tokens += found.target_tokens
    for layer, counts in found.expert_counts.items():
        seen.expert_counts[layer] = seen.expert_counts.get(layer, torch.zeros_like(counts)) + counts
