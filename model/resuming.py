"""A training that was cut off goes on with the bits that it would have had: parameters, AdamW's moments and sums are put back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.progress import Keeper, Progress

if TYPE_CHECKING:
    from model.training import TrainingResult

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # torch's names; a parameter that no step has moved has none


def progress_of(step: int, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, result: TrainingResult) -> Progress:
    """Copies of float32 parameters and moments by the parameter's number, and of int64 counts by layer."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for number, parameter in enumerate(parameters):
        arrays[f"parameter/{number}"] = _array(parameter)
        arrays |= {f"{name}/{number}": _array(values) for name, values in optimizer.state.get(parameter, {}).items()}
    arrays |= {f"tokens/{layer}": _array(counts) for layer, counts in result.expert_counts.items()}
    return Progress(step, arrays, result.loss_sum, result.examples, result.target_tokens)


def go_on(keeper: Keeper | None, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, result: TrainingResult) -> int:
    """Puts back what was kept, if anything was; the number of the next step."""
    found = None if keeper is None else keeper.begin
    if found is None:
        return 1
    for number, parameter in enumerate(parameters):
        parameter.data.copy_(_tensor(found, f"parameter/{number}"))
        if f"step/{number}" in found.arrays:
            optimizer.state[parameter] = {name: _tensor(found, f"{name}/{number}").to(parameter.device) for name in MOMENTS}
    device = parameters[0].device if parameters else None
    layers = [name.removeprefix("tokens/") for name in found.arrays if name.startswith("tokens/")]
    result.expert_counts = {int(layer): _tensor(found, f"tokens/{layer}").to(device) for layer in layers}
    result.loss_sum, result.examples, result.target_tokens = found.loss_sum, found.examples, found.target_tokens
    return found.step + 1


def _array(values: Tensor) -> NDArray[np.generic]:
    copied: NDArray[np.generic] = values.detach().cpu().numpy().copy()
    return copied


def _tensor(found: Progress, name: str) -> Tensor:
    return torch.from_numpy(np.array(found.arrays[name]))
