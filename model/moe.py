"""Mixture of experts (DeepSeek-V3, section 2.1.2): grouped experts for the routed tokens, one shared MLP for all."""

from __future__ import annotations

from functools import partial
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import ModelConfig
from model.fp8 import FP8, block_count, dequantize, frozen_linear
from model.layers import MLP
from model.routing import Router, Routing


class ExpertAdapter(Protocol):
    """What is trained on routed experts: differences added to both projections' outputs, tokens sorted by expert."""

    def gate_up(self, x: Tensor, counts: list[int]) -> Tensor: ...

    def down(self, x: Tensor, counts: list[int]) -> Tensor: ...


class Experts(nn.Module):
    """The routed experts' weights, stacked: gate_up_proj [E, 2I, H] (gate rows first), down_proj [E, H, I]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        experts, width, hidden = config.n_routed_experts, config.moe_intermediate_size, config.hidden_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * width, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, width))
        self.adapter: ExpertAdapter | None = None

    def forward(self, x: Tensor, counts: list[int]) -> Tensor:
        """x [m, H], sorted by expert: counts[e] tokens for expert e."""
        gate_up = self._linear("gate_up_proj", x, counts)  # [m, 2I]
        if self.adapter is not None:
            gate_up = gate_up + self.adapter.gate_up(x, counts)
        gate, up = gate_up.chunk(2, -1)
        inner = F.silu(gate) * up
        out = self._linear("down_proj", inner, counts)
        return out if self.adapter is None else out + self.adapter.down(inner, counts)

    def hold_fp8(self) -> None:
        """Makes room for FP8 weights, frozen, and their scales per block; gate and up have blocks of their own."""
        experts, hidden, width = self.down_proj.shape
        with torch.device(self.down_proj.device):
            for name in ("gate_up_proj", "down_proj"):
                weight = torch.empty(getattr(self, name).shape, dtype=FP8)
                setattr(self, name, nn.Parameter(weight, requires_grad=False))
            self.register_buffer("gate_up_scale_inv", torch.empty(experts, 2 * block_count(width), block_count(hidden)))
            self.register_buffer("down_scale_inv", torch.empty(experts, block_count(hidden), block_count(width)))

    def weights(self, projection: Literal["gate_up_proj", "down_proj"], expert: int, dtype: torch.dtype) -> Tensor:
        """The real weight of one expert, [2I, H] or [H, I]."""
        weight: Tensor = getattr(self, projection)[expert]
        if weight.dtype != FP8:
            return weight.to(dtype)
        scale_inv: Tensor = getattr(self, projection.replace("proj", "scale_inv"))[expert]
        parts = 2 if projection == "gate_up_proj" else 1
        return torch.cat([dequantize(w, s, dtype) for w, s in zip(weight.chunk(parts), scale_inv.chunk(parts), strict=True)])

    def _linear(self, projection: Literal["gate_up_proj", "down_proj"], x: Tensor, counts: list[int]) -> Tensor:
        weight: Tensor = getattr(self, projection)
        if weight.dtype != FP8:
            return grouped_linear(x, weight, counts)
        experts = [(expert, part) for expert, part in enumerate(x.split(counts)) if len(part)]
        return torch.cat([frozen_linear(part, partial(self.weights, projection, expert)) for expert, part in experts])


class MoE(nn.Module):
    """Routed experts plus one shared MLP of width n_shared_experts * moe_intermediate_size."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = Router(config)
        self.experts = Experts(config)
        if config.n_shared_experts:
            self.shared_experts = MLP(config.hidden_size, config.n_shared_experts * config.moe_intermediate_size)

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        tokens = x.flatten(0, -2)  # [n, H]
        routing = self.gate(tokens)
        chosen = routing.indices.flatten()
        order = chosen.argsort(stable=True)
        source = order // routing.indices.shape[1]
        counts = torch.bincount(chosen, minlength=routing.scores.shape[1]).tolist()
        out = self.experts(tokens[source], counts) * routing.weights.flatten()[order, None].to(x.dtype)
        mixed = torch.zeros_like(tokens).index_add(0, source, out).view_as(x)
        return (mixed + self.shared_experts(x) if hasattr(self, "shared_experts") else mixed), routing


def grouped_linear(x: Tensor, weight: Tensor, counts: list[int]) -> Tensor:
    """x [m, in] sorted by expert times each expert's weight [E, out, in], tokens of expert e being counts[e]: [m, out]."""
    parts = [F.linear(part, weight[expert]) for expert, part in enumerate(x.split(counts)) if len(part)]
    return torch.cat(parts)
