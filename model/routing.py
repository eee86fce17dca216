"""Who gets which token, and how evenly: DeepSeek-V3's sigmoid scores with a selection-only bias (section 2.1.2), V2's softmax scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import ModelConfig
from model.errors import ConfigError
from model.layers import moves_alone


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
    """Top-k routing in float32, limited to groups; a bias decides who is chosen, never how much they weigh.

    `noaux_tc` (V3) scores a group by its best two experts, bias included; `group_limited_greedy` (V2) has no bias and scores
    it by its best one; `greedy` (V2) knows no groups. The bias keeps its type when the network is given another.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.e_score_correction_bias: Tensor  # only where `biased`
        self.weight = nn.Parameter(torch.zeros(config.n_routed_experts, config.hidden_size))
        self.biased, self.softmax = config.topk_method == "noaux_tc", config.scoring_func == "softmax"
        if self.biased:
            self.register_buffer("e_score_correction_bias", torch.zeros(config.n_routed_experts))
        self.groups = 1 if config.topk_method == "greedy" else config.n_group
        self.top_k, self.kept_groups = config.num_experts_per_tok, config.topk_group
        self.normalise, self.factor = config.norm_topk_prob, config.routed_scaling_factor

    def forward(self, x: Tensor) -> Routing:
        logits = F.linear(x.float(), self.weight.float())
        scores = logits.softmax(-1) if self.softmax else logits.sigmoid()  # [n, E]
        indices = self._choose(scores + self.e_score_correction_bias if self.biased else scores)
        weights = scores.gather(1, indices)
        if self.normalise:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return Routing(weights * self.factor, indices, scores)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(moves_alone(fn, self.buffers(recurse=False)), recurse)  # type: ignore[no-untyped-call]
        return self

    def _choose(self, choice: Tensor) -> Tensor:
        if self.kept_groups < self.groups:
            grouped = choice.unflatten(-1, (self.groups, -1))  # [n, groups, E / groups]
            best = grouped.topk(2 if self.biased else 1, dim=-1).values.sum(-1).topk(self.kept_groups, dim=-1).indices
            rejected = torch.ones_like(grouped[..., 0], dtype=torch.bool).scatter_(1, best, False)
            # -inf and not 0: a rejected expert must not outrank a kept one whose biased score is negative.
            choice = grouped.masked_fill(rejected[..., None], float("-inf")).flatten(1)
        return choice.topk(self.top_k, dim=-1, sorted=False).indices


def expert_counts(routings: Mapping[int, Routing], valid: Tensor | None) -> dict[int, Tensor]:
    """Tokens that each expert of each layer got, [E] int64; `valid` [b, t] leaves out padding."""
    return {layer: r.counts(None if valid is None else routed_tokens(r, valid)) for layer, r in routings.items()}


def routed_tokens(routing: Routing, valid: Tensor) -> Tensor:
    """Which of the n routed tokens are not padding, [n]; an MTP depth routes the later tokens of `valid` [b, t] only."""
    covered = len(routing.scores) // len(valid)
    return valid[:, valid.shape[1] - covered :].flatten()


def update_bias(router: Router, counts: Tensor, rate: float) -> None:
    """Auxiliary-loss-free balancing (Wang et al. 2024): b += rate * sign(mean load - load); counts [E] of the whole batch.

    Raises:
        ConfigError: the router has no bias, as in DeepSeek-V2; nothing is changed.
    """
    if not router.biased:
        raise ConfigError("topk_method of this network has no e_score_correction_bias to move: set bias_update_speed to 0")
    load = counts.float()
    router.e_score_correction_bias.add_(rate * torch.sign(load.mean() - load))


def balance_loss(routing: Routing, sequences: int, valid: Tensor | None = None) -> Tensor:
    """Sequence-wise balance loss before its factor alpha (DeepSeek-V3, equations 17 to 20), averaged over sequences.

    Means are over a sequence's tokens with `valid` [n]; one without any counts as balanced, with loss 0. Softmax scores already
    sum to one, so for them this is DeepSeek-V2's expert-level loss (section 2.2.3) of each sequence.
    """
    experts, top_k = routing.scores.shape[-1], routing.indices.shape[-1]
    weight = torch.ones_like(routing.scores[:, :1]) if valid is None else valid[:, None].to(routing.scores.dtype)
    tokens = weight.view(sequences, -1).sum(1, keepdim=True).clamp(min=1)  # [sequences, 1]
    share = routing.scores / routing.scores.sum(-1, keepdim=True) * weight
    mean_share = share.view(sequences, -1, experts).sum(1) / tokens  # P [sequences, E]
    picked = torch.zeros_like(routing.scores).scatter_(1, routing.indices, 1.0) * weight
    load = picked.view(sequences, -1, experts).sum(1) / tokens * experts / top_k  # f, no gradient
    return (load * mean_share).sum(-1).mean()
