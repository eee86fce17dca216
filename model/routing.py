"""Who gets which token (DeepSeek-V3, section 2.1.2): sigmoid scores with a selection-only bias, limited to groups, and their balance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import ModelConfig


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
