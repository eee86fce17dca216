"""The rows of a batch that grow by different numbers of tokens, and end at an end token or at their greatest length."""

from __future__ import annotations

import torch
from torch import Tensor

from model.decoding.generation import Sampling


class Rows:
    """New tokens behind prompts [b, t]; `draft_tokens` + 1 is the most that a row grows by at once."""

    def __init__(self, prompt: Tensor, max_new_tokens: int, draft_tokens: int, sampling: Sampling) -> None:
        self._prompt, self._most, self._ends = prompt, max_new_tokens, sampling.ends(prompt.device)
        # Blocks are written whole: what is no token of the row is written over, or lies beyond max_new_tokens.
        self._new = prompt.new_zeros(len(prompt), max_new_tokens + draft_tokens + 1)
        self._filled = prompt.new_zeros(len(prompt))
        self._done = torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device)
        self.unfinished = len(prompt)
        self.longest = max_new_tokens  # tokens that an unfinished row still lacks, at most
        self.accepted = 0
        self.width, self.level = 0, True  # of the last block: the most tokens that a row kept, and whether all kept as many

    def append(self, block: Tensor, accepted: Tensor) -> Tensor:
        """Adds accepted[r] + 1 tokens of block [b, w] to each unfinished row r; returns how many each row kept, [b]."""
        columns = torch.arange(block.shape[1], device=block.device)
        kept = (accepted + 1).masked_fill(self._done, 0)
        start = self._filled.masked_fill(self._done, self._most)
        self._new.scatter_(1, start[:, None] + columns, block)
        self._filled = self._filled + kept
        self._done = self._done | (self._filled >= self._most)
        if self._ends is not None:
            self._done |= (torch.isin(block, self._ends) & (columns < kept[:, None])).any(1)
        self._count(kept)
        return kept

    def tokens(self) -> Tensor:
        """[b, t + n]; a row repeats its end token, and n is the length of the longest row."""
        new = self._new[:, : self._most]
        if self._ends is None:
            return torch.cat([self._prompt, new], 1)
        end = torch.isin(new, self._ends)
        first = end.long().argmax(1, keepdim=True).masked_fill(~end.any(1, keepdim=True), self._most - 1)
        columns = torch.arange(self._most, device=new.device)
        filled = torch.where(columns > first, new.gather(1, first), new)
        return torch.cat([self._prompt, filled[:, : int(first.max()) + 1]], 1)

    def _count(self, kept: Tensor) -> None:
        lacking = (self._most - self._filled).masked_fill(self._done, 0)
        # One transfer to the host a step.
        facts = torch.stack([kept.max(), kept.min(), kept.sum(), lacking.max(), self._done.logical_not().sum()]).tolist()
        self.width, self.level, self.longest = facts[0], facts[0] == facts[1], facts[3]
        self.accepted += facts[2] - self.unfinished
        self.unfinished = facts[4]
