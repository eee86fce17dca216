"""Cross entropy at the positions that have a target, in chunks: all logits of a batch never exist at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

IGNORED = -100
LOGITS = 2**25  # that exist at the same time


@dataclass(frozen=True, slots=True)
class LogitAdjustment:
    """Values [m] added in training to the logits of token `columns` [m] at target position `rows` [m] (ascending)."""

    rows: Tensor
    columns: Tensor
    values: Tensor

    def subset(self, keep: Tensor) -> LogitAdjustment:
        """The adjustment of those target positions that `keep` [n] names, renumbered."""
        inside = keep[self.rows]
        renumbered = keep.cumsum(0) - 1
        return LogitAdjustment(renumbered[self.rows[inside]], self.columns[inside], self.values[inside])

    def within(self, start: int, end: int) -> LogitAdjustment:
        inside = (self.rows >= start) & (self.rows < end)
        return LogitAdjustment(self.rows[inside] - start, self.columns[inside], self.values[inside])


@dataclass(frozen=True, slots=True)
class Loss:
    """One batch's loss. `main` and `mtp` are means over their target tokens; `expert_counts` are tokens per layer, [E] each."""

    total: Tensor
    main: Tensor
    mtp: Tensor
    balance: Tensor
    expert_counts: dict[int, Tensor]
    target_tokens: int

    def plus(self, other: Loss) -> Loss:
        """The loss of two parts of one batch, each a share of the means of the whole."""
        counts = {layer: count + other.expert_counts[layer] for layer, count in self.expert_counts.items()}
        return Loss(
            self.total + other.total,
            self.main + other.main,
            self.mtp + other.mtp,
            self.balance + other.balance,
            counts,
            self.target_tokens + other.target_tokens,
        )

    def detached(self) -> Loss:
        """The same without a graph."""
        return replace(self, total=self.total.detach(), main=self.main.detach(), mtp=self.mtp.detach(), balance=self.balance.detach())


@dataclass(frozen=True, slots=True)
class TargetCounts:
    """What the means of a loss are taken over: given to each part of a batch that comes in parts, so that their losses add up."""

    tokens: tuple[int, ...]  # targets of the main loss and of each MTP depth
    sequences: int


def count_targets(targets: Tensor, segments: Tensor | None, depths: int) -> TargetCounts:
    """Counts targets [b, t] (IGNORED where none) of the main loss and of `depths` MTP modules."""
    tokens = [int(wanted(targets, ahead, segments).sum()) for ahead in range(1, depths + 2)]
    return TargetCounts(tuple(tokens), len(targets))


class Head(Protocol):
    """Maps hidden [m, H] to logits [m, out_features]."""

    out_features: int

    def __call__(self, x: Tensor, /) -> Tensor: ...


def cross_entropy(hidden: Tensor, head: Head, targets: Tensor, adjustment: LogitAdjustment | None = None) -> Tensor:
    """Summed cross entropy of hidden [n, H] against targets [n] in float32."""
    chunk = max(LOGITS // head.out_features, 1)
    if len(targets) <= chunk:
        return _chunk_loss(hidden, head, targets, adjustment)
    total = hidden.new_zeros((), dtype=torch.float32)
    for start in range(0, len(targets), chunk):
        end = min(start + chunk, len(targets))
        part = adjustment.within(start, end) if adjustment else None
        total = total + checkpoint(_chunk_loss, hidden[start:end], head, targets[start:end], part, use_reentrant=False)
    return total


def _chunk_loss(hidden: Tensor, head: Head, targets: Tensor, adjustment: LogitAdjustment | None) -> Tensor:
    return F.cross_entropy(adjusted_logits(hidden, head, adjustment), targets, reduction="sum")


def adjusted_logits(hidden: Tensor, head: Head, adjustment: LogitAdjustment | None) -> Tensor:
    """Logits [m, vocab] in float32 of hidden [m, H], the adjustment of these m positions added."""
    logits = head(hidden).float()
    if adjustment is None:
        return logits
    return logits.index_put((adjustment.rows, adjustment.columns), adjustment.values, accumulate=True)


def select_targets(hidden: Tensor, targets: Tensor, ahead: int, segments: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """States that predict a target `ahead` tokens later: hidden [b, t', H], targets [b, t] (IGNORED where none) to [n, H] and [n].

    t' is t - ahead at least. With segments [b, t] a target of another document is none.
    """
    found = wanted(targets, ahead, segments)  # [b, t - ahead]
    return hidden[:, : found.shape[1]][found], targets[:, ahead:][found]


def wanted(targets: Tensor, ahead: int, segments: Tensor | None) -> Tensor:
    """Where from place `ahead` on targets [b, t] hold one to be predicted that many tokens before, in its own document: [b, t - ahead]."""
    found = targets[:, ahead:] != IGNORED
    return found if segments is None else found & (segments[:, ahead:] == segments[:, :-ahead])
