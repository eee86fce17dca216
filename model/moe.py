"""Mixture of experts (DeepSeek-V3, section 2.1.2): sigmoid routing with a selection-only bias, grouped experts, shared experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import ModelConfig
from model.layers import MLP


@dataclass(frozen=True, slots=True)
class Routing:
    """Where n tokens go: weights and indices [n, k], all experts' scores [n, E]."""

    weights: Tensor
    indices: Tensor
    scores: Tensor

    def counts(self, valid: Tensor | None) -> Tensor:
        """Tokens that each expert gets, [E] int64; only tokens with `valid` [n] count."""
        chosen = self.indices if valid is None else self.indices[valid]
        return torch.bincount(chosen.flatten(), minlength=self.scores.shape[-1])


class ExpertAdapter(Protocol):
    """What is trained on routed experts: differences added to both projections' outputs, tokens sorted by expert."""

    def gate_up(self, x: Tensor, counts: list[int]) -> Tensor: ...

    def down(self, x: Tensor, counts: list[int]) -> Tensor: ...


class Router(nn.Module):
    """Top-k routing in float32; the bias decides who is chosen, never how much they weigh."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.e_score_correction_bias: Tensor
        self.weight = nn.Parameter(torch.zeros(config.n_routed_experts, config.hidden_size))
        self.register_buffer("e_score_correction_bias", torch.zeros(config.n_routed_experts))
        self.top_k, self.groups, self.kept_groups = config.num_experts_per_tok, config.n_group, config.topk_group
        self.normalise, self.factor = config.norm_topk_prob, config.routed_scaling_factor

    def forward(self, x: Tensor) -> Routing:
        scores = F.linear(x.float(), self.weight.float()).sigmoid()  # [n, E]
        indices = self._choose(scores + self.e_score_correction_bias)
        weights = scores.gather(1, indices)
        if self.normalise:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return Routing(weights * self.factor, indices, scores)

    def _choose(self, choice: Tensor) -> Tensor:
        if self.kept_groups < self.groups:
            grouped = choice.unflatten(-1, (self.groups, -1))  # [n, groups, E / groups]
            best = grouped.topk(2, dim=-1).values.sum(-1).topk(self.kept_groups, dim=-1).indices
            rejected = torch.ones_like(grouped[..., 0], dtype=torch.bool).scatter_(1, best, False)
            # -inf and not 0: with a negative bias a rejected expert must not outrank a kept one.
            choice = grouped.masked_fill(rejected[..., None], float("-inf")).flatten(1)
        return choice.topk(self.top_k, dim=-1, sorted=False).indices


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
        gate_up = grouped_linear(x, self.gate_up_proj, counts)  # [m, 2I]
        if self.adapter is not None:
            gate_up = gate_up + self.adapter.gate_up(x, counts)
        gate, up = gate_up.chunk(2, -1)
        inner = F.silu(gate) * up
        out = grouped_linear(inner, self.down_proj, counts)
        return out if self.adapter is None else out + self.adapter.down(inner, counts)


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


def update_bias(router: Router, counts: Tensor, rate: float) -> None:
    """Auxiliary-loss-free balancing (Wang et al. 2024): b += rate * sign(mean load - load); counts [E] of the whole batch."""
    load = counts.float()
    router.e_score_correction_bias.add_(rate * torch.sign(load.mean() - load))


def balance_loss(routing: Routing, sequences: int) -> Tensor:
    """Sequence-wise balance loss before its factor alpha (DeepSeek-V3, equations 17 to 20), averaged over sequences."""
    experts, top_k = routing.scores.shape[-1], routing.indices.shape[-1]
    share = routing.scores / routing.scores.sum(-1, keepdim=True)
    mean_share = share.view(sequences, -1, experts).mean(1)  # P [sequences, E]
    picked = torch.zeros_like(routing.scores).scatter_(1, routing.indices, 1.0)
    load = picked.view(sequences, -1, experts).mean(1) * experts / top_k  # f, no gradient
    return (load * mean_share).sum(-1).mean()
