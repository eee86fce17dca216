"""Mixture of experts (DeepSeek-V3, section 2.1.2): grouped experts for the routed tokens, one shared MLP for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, Protocol, Self, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import ModelConfig
from model.few_rows import FEW
from model.fp8 import FP8, block_count, dequantize
from model.grouped import Groups, Kernel, WeightOf, combine, grouped_linear, groups_of, kernel_takes
from model.layers import MLP, moves_alone, typed
from model.routing import Router, Routing

ExpertProjection: TypeAlias = Literal["gate_up_proj", "down_proj"]


class ExpertAdapter(Protocol):
    """What is trained on routed experts; `projection` is gate_up_proj or down_proj."""

    def own_weights(self, projection: ExpertProjection, groups: Groups, weight_of: WeightOf) -> Mapping[int, Tensor]:
        """Weights [out, in] that replace those of their experts."""

    def add_to(self, out: Tensor, projection: ExpertProjection, x: Tensor, groups: Groups) -> Tensor:
        """Adds to the experts' outputs [m, out], perhaps in place, for inputs x [m, in] sorted by expert."""


class Experts(nn.Module):
    """The routed experts' weights, stacked: gate_up_proj [E, 2I, H] (gate rows first), down_proj [E, H, I]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        experts, width, hidden = config.n_routed_experts, config.moe_intermediate_size, config.hidden_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * width, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, width))
        self.adapter: ExpertAdapter | None = None

    def forward(self, x: Tensor, groups: Groups, ends: Tensor | None = None) -> Tensor:
        """x [m, H], sorted by expert as `groups` says: [m, H]. `ends` are those of `model.grouped.Kernel`, where it is to be used."""
        gate, up = self._product("gate_up_proj", x, groups, ends).chunk(2, -1)
        return self._product("down_proj", F.silu(gate) * up, groups, ends)

    def weight(self, projection: ExpertProjection, expert: int, dtype: torch.dtype) -> Tensor:
        """One expert's real weight [out, in] in the given type, detached."""
        stack: Tensor = getattr(self, projection)
        if stack.dtype != FP8:
            return typed(stack[expert].detach(), dtype)
        scale_inv: Tensor = getattr(self, projection.replace("proj", "scale_inv"))
        halves = 2 if projection == "gate_up_proj" else 1
        pairs = zip(stack[expert].chunk(halves), scale_inv[expert].chunk(halves), strict=True)
        return torch.cat([dequantize(weight, scales, dtype) for weight, scales in pairs])

    def hold_fp8(self) -> None:
        """Makes room for FP8 weights, frozen, and their scales per block (`model.fp8`); gate and up have blocks of their own."""
        experts, hidden, width = self.down_proj.shape
        with torch.device(self.down_proj.device):
            for name in ("gate_up_proj", "down_proj"):
                setattr(self, name, nn.Parameter(torch.empty(getattr(self, name).shape, dtype=FP8), requires_grad=False))
            self.register_buffer("gate_up_scale_inv", torch.empty(experts, 2 * block_count(width), block_count(hidden)))
            self.register_buffer("down_scale_inv", torch.empty(experts, block_count(hidden), block_count(width)))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        held = () if self.down_proj.dtype != FP8 else (self.gate_up_proj, self.down_proj, *self.buffers(recurse=False))
        super()._apply(moves_alone(fn, held), recurse)  # type: ignore[no-untyped-call]
        return self

    def _product(self, projection: ExpertProjection, x: Tensor, groups: Groups, ends: Tensor | None) -> Tensor:
        stack: Tensor = getattr(self, projection)
        weight_of = partial(self.weight, projection)
        trained = stack if stack.requires_grad else None
        kernel = None if ends is None else Kernel(stack.detach(), ends)
        if self.adapter is None:
            return grouped_linear(x, groups, stack.shape[1], weight_of, trained, {}, kernel)
        own = self.adapter.own_weights(projection, groups, weight_of)
        return self.adapter.add_to(grouped_linear(x, groups, stack.shape[1], weight_of, trained, own, kernel), projection, x, groups)


def sorted_by_expert(routing: Routing) -> tuple[Tensor, Tensor]:
    """The order [n k] that sorts a routing's (token, expert) pairs by expert, then by token, and the token of each pair in it."""
    order = routing.indices.flatten().argsort(stable=True)
    return order, order // routing.indices.shape[1]


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
        unsorted = len(tokens) <= FEW and not torch.is_grad_enabled()
        mixed = (self._unsorted if unsorted else self._sorted)(tokens, routing).view_as(x)
        return (mixed + self.shared_experts(x) if hasattr(self, "shared_experts") else mixed), routing

    def _sorted(self, tokens: Tensor, routing: Routing) -> Tensor:
        order, source = sorted_by_expert(routing)
        counts = torch.bincount(routing.indices.flatten(), minlength=routing.scores.shape[1])  # [E]
        ends = counts.cumsum(0, dtype=torch.int32) if kernel_takes(tokens, self.experts.gate_up_proj) else None
        out = self.experts(tokens.index_select(0, source), groups_of(counts.tolist()), ends)  # [n k, H]
        return combine(out, routing.weights.flatten().index_select(0, order), source, len(tokens))

    def _unsorted(self, tokens: Tensor, routing: Routing) -> Tensor:
        """Decoding's case: a row for each token and expert costs less than sorting."""
        groups = tuple((expert, row, row + 1) for row, expert in enumerate(routing.indices.flatten().tolist()))
        out = self.experts(tokens.repeat_interleave(routing.indices.shape[1], 0), groups)  # [n k, H]
        return torch.bmm(routing.weights[:, None].to(tokens.dtype), out.unflatten(0, routing.indices.shape))[:, 0]
