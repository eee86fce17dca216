"""Which drafts stand (Leviathan et al. 2023, algorithm 1; Chen et al. 2023, algorithm 2): the result is distributed as without drafts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def accept_greedy(logits: Tensor, drafts: Tensor) -> tuple[Tensor, Tensor]:
    """How many of the drafts [b, k] are the likeliest tokens, and the likeliest one after these: both [b].

    logits [b, k + 1, vocab] are the network's own for the k drafts and for the token after them.
    """
    likeliest = logits.argmax(-1)  # [b, k + 1]
    accepted = _leading(likeliest[:, :-1] == drafts)
    return accepted, likeliest.gather(1, accepted[:, None])[:, 0]


def accept_sampled(wanted: Tensor, proposed: Tensor, drafts: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """How many of the drafts [b, k] stand, and the token after these: both [b].

    Draft x, drawn from `proposed` q [b, k, vocab], stands with probability min(1, p(x) / q(x)), p being `wanted`
    [b, k + 1, vocab]; the token after the last that stands comes from norm(max(p - q, 0)), or from p if all stand.
    """
    chance, density = (_at(values, drafts) for values in (wanted[:, :-1], proposed))
    uniform = torch.rand(drafts.shape, generator=generator, device=drafts.device)
    accepted = _leading(uniform * density < chance)
    rows = torch.arange(len(drafts), device=drafts.device)
    target = wanted[rows, accepted]
    residual = (target - F.pad(proposed, (0, 0, 0, 1))[rows, accepted]).clamp_(min=0)
    # Rounding alone can leave nothing, where p and q are equal.
    residual = torch.where(residual.sum(-1, keepdim=True) > 0, residual, target)
    return accepted, torch.multinomial(residual, 1, generator=generator)[:, 0]


def _leading(right: Tensor) -> Tensor:
    return right.long().cumprod(1).sum(1)


def _at(values: Tensor, tokens: Tensor) -> Tensor:
    return values.gather(-1, tokens[..., None])[..., 0]
