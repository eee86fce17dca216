"""What is trained on single routed experts: LoRA or a full difference, on the tokens routed to them and on nothing else.

Each expert's tensors are parameters of their own, in float32, so that an expert without tokens in a step has no gradient: the
optimiser then neither moves nor decays it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from model.grouped import Groups, WeightOf, add_rows
from model.lora import LoRAPair
from model.moe import ExpertProjection

PARTS: dict[ExpertProjection, tuple[str, ...]] = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}
Shapes = Mapping[str, tuple[int, int]]  # projection -> [out, in]


class FullDifference(nn.Module):
    """A difference to the base's weight, [out, in], starting at zero."""

    def __init__(self, shape: tuple[int, int], device: torch.device | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape, device=device))

    def delta(self) -> Tensor:
        return self.weight


class _AdaptedExperts(nn.Module):
    """The adapted experts of one layer, `experts[expert][projection]`."""

    def __init__(self, experts: dict[str, nn.ModuleDict]) -> None:
        super().__init__()
        self.experts = nn.ModuleDict(experts)

    def delta(self, expert: int, projection: ExpertProjection) -> Tensor:
        """The difference to the base's weight, gate rows before up rows, [out, in], float32."""
        parts = [self.part(expert, name).delta() for name in PARTS[projection]]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def part(self, expert: int, projection: str) -> LoRAPair | FullDifference:
        """What is trained on one projection (gate_proj, up_proj, down_proj) of an expert."""
        return cast("LoRAPair | FullDifference", cast(nn.ModuleDict, self.experts[str(expert)])[projection])

    def _adapted(self, groups: Groups) -> Groups:
        return tuple(group for group in groups if str(group[0]) in self.experts)


class FullExperts(_AdaptedExperts):
    """Full differences: the expert's weight is the base's plus its difference, summed in float32."""

    def __init__(self, shapes: Shapes, chosen: tuple[int, ...], device: torch.device) -> None:
        super().__init__({str(e): nn.ModuleDict({name: FullDifference(shapes[name], device) for name in shapes}) for e in chosen})

    def own_weights(self, projection: ExpertProjection, groups: Groups, weight_of: WeightOf) -> Mapping[int, Tensor]:
        return {expert: weight_of(expert, torch.float32) + self.delta(expert, projection) for expert, _, _ in self._adapted(groups)}

    def add_to(self, out: Tensor, projection: ExpertProjection, x: Tensor, groups: Groups) -> Tensor:
        return out


class LoRAExperts(_AdaptedExperts):
    """Low-rank differences: their outputs are added for the experts' own tokens, and no difference is ever written out."""

    def __init__(self, shapes: Shapes, chosen: tuple[int, ...], device: torch.device, rank: int, lora_alpha: float) -> None:
        def pairs() -> nn.ModuleDict:
            return nn.ModuleDict({name: LoRAPair(shapes[name], rank, lora_alpha / rank, device) for name in shapes})

        super().__init__({str(expert): pairs() for expert in chosen})

    def own_weights(self, projection: ExpertProjection, groups: Groups, weight_of: WeightOf) -> Mapping[int, Tensor]:
        return {}

    def add_to(self, out: Tensor, projection: ExpertProjection, x: Tensor, groups: Groups) -> Tensor:
        mine = self._adapted(groups)
        if not mine:
            return out
        rows = torch.cat([torch.arange(start, end, device=x.device) for _, start, end in mine])
        parts = x.index_select(0, rows).split([end - start for _, start, end in mine])
        added = [self._low_rank(expert, projection, part) for (expert, _, _), part in zip(mine, parts, strict=True)]
        return add_rows(out, rows, torch.cat(added))

    def _low_rank(self, expert: int, projection: ExpertProjection, x: Tensor) -> Tensor:
        adapted = cast(nn.ModuleDict, self.experts[str(expert)])
        return torch.cat([adapted[name](x) for name in PARTS[projection]], -1)
