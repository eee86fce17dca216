"""What is trained on single routed experts: LoRA or a full difference, applied to the tokens routed to them and to nothing else.

Each expert's tensors are parameters of their own, so that an expert without tokens in a step has no gradient: the optimiser
then neither moves nor decays it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


class ProjectionLoRA(nn.Module):
    """scaling * B A x (Hu et al. 2021): lora_A [r, in], lora_B [out, r]."""

    def __init__(self, shape: tuple[int, int], rank: int, scaling: float) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(torch.zeros(rank, shape[1]))
        self.lora_B = nn.Parameter(torch.zeros(shape[0], rank))
        self.scaling = scaling

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.lora_A), self.lora_B) * self.scaling

    def delta(self) -> Tensor:
        """The difference to the base's weight, [out, in]."""
        return self.lora_B @ self.lora_A * self.scaling


class ProjectionDelta(nn.Module):
    """A full difference to the base's weight, [out, in], starting at zero."""

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)

    def delta(self) -> Tensor:
        return self.weight


class AdaptedExperts(nn.Module):
    """The adapters of one layer's chosen experts; `model.moe.Experts` adds their outputs to its own."""

    def __init__(self, shapes: dict[str, tuple[int, int]], make: Callable[[tuple[int, int]], nn.Module], chosen: tuple[int, ...]) -> None:
        super().__init__()
        self.shapes = shapes
        self.experts = nn.ModuleDict({str(e): nn.ModuleDict({name: make(shapes[name]) for name in PROJECTIONS}) for e in chosen})

    def gate_up(self, x: Tensor, counts: list[int]) -> Tensor:
        """x [m, H] sorted by expert: [m, 2I], zero for experts that are not adapted."""
        return self._each(x, counts, ("gate_proj", "up_proj"))

    def down(self, x: Tensor, counts: list[int]) -> Tensor:
        """x [m, I] sorted by expert: [m, H]."""
        return self._each(x, counts, ("down_proj",))

    def _each(self, x: Tensor, counts: list[int], names: tuple[str, ...]) -> Tensor:
        width = sum(self.shapes[name][0] for name in names)
        parts = []
        for expert, part in enumerate(x.split(counts)):
            adapted = len(part) > 0 and str(expert) in self.experts
            parts.append(self._outputs(expert, part, names) if adapted else part.new_zeros(len(part), width))
        return torch.cat(parts)

    def _outputs(self, expert: int, part: Tensor, names: tuple[str, ...]) -> Tensor:
        projections = self.experts[str(expert)]
        return torch.cat([projections[name](part) for name in names], -1)  # type: ignore[index]
