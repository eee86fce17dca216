"""Which position of its row each cache slot holds: rows that accept differently many drafts share the slots, and leave holes."""

from __future__ import annotations

import torch
from torch import Tensor

_HOLE = -1
_UNWRITTEN = 2**62  # above every position, so that a new token is visible


class Slots:
    """The slots of several rows, starting with prompts of `length` tokens; attention_mask [rows, length] is 0 at left padding."""

    def __init__(self, attention_mask: Tensor | None, rows: int, length: int, capacity: int, device: torch.device) -> None:
        self._positions = torch.full((rows, capacity), _UNWRITTEN, device=device)  # [b, capacity]
        self._dense = attention_mask is None
        filled = torch.ones(rows, length, dtype=torch.bool, device=device) if attention_mask is None else attention_mask.bool()
        self._positions[:, :length] = (filled.long().cumsum(1) - 1).where(filled, _HOLE)
        self._next = filled.sum(1)  # [b]
        self.length = length
        self.rows, self.capacity = rows, capacity

    def mask(self, total: int, first: Tensor | int = 0) -> Tensor | None:
        """An attention mask [b, total]: 0 at holes and before position `first` ([b, 1]); None if there is nothing to hide."""
        hides_nothing = self._dense and isinstance(first, int) and first == 0
        return None if hides_nothing else self._positions[:, :total] >= first

    def positions(self, start: int, end: int) -> Tensor:
        """Positions [b, end - start] of written slots, 0 at holes."""
        return self._positions[:, start:end].clamp(min=0)

    def following(self, tokens: int) -> Tensor:
        """Positions [b, tokens] of the next tokens of each row."""
        return self._next[:, None] + torch.arange(tokens, device=self._next.device)

    def append(self, kept: Tensor, width: int, *, level: bool) -> None:
        """Adds `width` slots, of which row r fills the first kept[r] (`level`: all of them) and leaves holes in the others."""
        columns = torch.arange(width, device=kept.device)
        self._positions[:, self.length : self.length + width] = (self._next[:, None] + columns).where(columns < kept[:, None], _HOLE)
        self._dense = self._dense and level
        self._next = self._next + kept
        self.length += width

    def crowded(self, further: int) -> bool:
        """Whether `further` more slots would not fit."""
        return self.length + further > self.capacity

    def compact(self) -> Tensor:
        """Moves every row's tokens to the right end of as few slots as hold the fullest row; returns the slots kept, [b, m], in order."""
        filled = self._positions[:, : self.length] != _HOLE
        kept = filled.long().argsort(dim=1, stable=True)[:, self.length - int(filled.sum(1).max()) :]
        moved = self._positions.gather(1, kept)
        self._positions.fill_(_UNWRITTEN)
        self.length = kept.shape[1]
        self._positions[:, : self.length] = moved
        return kept
