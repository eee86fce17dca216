"""The likeliest choice for each prompt, exactly: the search leaves out only what cannot win.

A choice's log-probability is the sum over its tokens, so it only falls along a path of the trie. A greedy descent gives each
record a complete choice; afterwards only prefixes that are still at least as likely as the best complete one are followed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.choices import ChoiceTrie
from model.cache import LatentCache
from model.transformer import DeepseekV3

LOGITS = 2**22  # logits that exist at once: bounds the rows of a batch
PROMPT_TOKENS = 2**14  # tokens of a batch of prompts
PADDING = 4


class _Past:
    """What the network has read in each row: its cache, and which of the cache's positions are not padding."""

    def __init__(self, cache: LatentCache, mask: Tensor | None) -> None:
        self._cache, self._mask = cache, mask  # mask [rows, longest], ones from the prompt's beginning on

    def rows(self, rows: Tensor) -> _Past:
        """The same for `rows` [m], which may repeat; this one stays as it is."""
        cache = copy(self._cache)  # its tensors are shared until reorder replaces them
        cache.reorder(rows)
        return _Past(cache, None if self._mask is None else self._mask[rows])

    def read(self, net: DeepseekV3, ids: Tensor) -> Tensor:
        """Log-probabilities [rows, vocab] of what follows after `ids` [rows, t]."""
        mask = None if self._mask is None else self._mask[:, : self._cache.length + ids.shape[1]]
        logits: Tensor = net.lm_head(net.hidden(ids, self._cache, mask).main[:, -1])
        return logits.float().log_softmax(-1)


@dataclass(frozen=True, slots=True)
class _Frontier:
    """m prefixes [m]: record, node, summed log-probability (float64), and the row of `past` that has read all but the last token."""

    past: _Past
    record: Tensor
    node: Tensor
    score: Tensor
    row: Tensor

    def keep(self, chosen: Tensor) -> _Frontier:
        return _Frontier(self.past, self.record[chosen], self.node[chosen], self.score[chosen], self.row[chosen])


@torch.inference_mode()
def likeliest_choices(net: DeepseekV3, trie: ChoiceTrie, prompts: Sequence[NDArray[np.int32]]) -> NDArray[np.int64]:
    """For each prompt [t] the index of the choice with the largest summed log-probability under the full softmax.

    The end token counts, nothing is normalised by length, ties go to the first in the list.
    """
    result = np.zeros(len(prompts), np.int64)
    limit = max(1, LOGITS // net.config.vocab_size)
    for batch in _batches([len(prompt) for prompt in prompts], limit):
        result[batch] = _Search(net, trie, len(batch), limit).run([prompts[index] for index in batch])
    return result


def _batches(lengths: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Prompts of like length together: at most `limit`, PROMPT_TOKENS tokens, and one token of padding for PADDING of text."""
    batch: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        padded = lengths[index] * (len(batch) + 1)
        if len(batch) == limit or (batch and (padded > PROMPT_TOKENS or padded > (1 + 1 / PADDING) * (tokens + lengths[index]))):
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += lengths[index]
    if batch:
        yield batch


class _Search:
    """The search for one batch of records."""

    def __init__(self, net: DeepseekV3, trie: ChoiceTrie, records: int, limit: int) -> None:
        self.net, self.limit, self.depth = net, limit, trie.depth
        self.device = net.model.embed_tokens.weight.device
        self.token, self.first, self.count, self.choice = (
            torch.from_numpy(values).to(self.device) for values in (trie.tokens, trie.first_child, trie.child_count, trie.choice)
        )
        self.best = torch.full((records,), -torch.inf, dtype=torch.float64, device=self.device)
        self.winner = torch.zeros(records, dtype=torch.int64, device=self.device)

    def run(self, prompts: Sequence[NDArray[np.int32]]) -> NDArray[np.int64]:
        waiting = self._descend(prompts)
        while waiting:
            frontier = waiting.pop()
            alive = frontier.keep(frontier.score >= self.best[frontier.record])
            if len(alive.record) > self.limit:  # the likeliest first: they may settle the others
                order = alive.score.argsort(descending=True)
                waiting.append(alive.keep(order[self.limit :]))
                alive = alive.keep(order[: self.limit])
            if len(alive.record):
                waiting.append(self._read(alive))
        return np.asarray(self.winner.cpu().numpy())

    def _descend(self, prompts: Sequence[NDArray[np.int32]]) -> list[_Frontier]:
        """Follows each record's likeliest child as long as it can win; returns all that was passed by."""
        ids, mask = _left_padded(prompts, self.depth, self.device)
        past = _Past(self.net.new_cache(len(prompts), ids.shape[1] + self.depth), mask)
        everyone = torch.arange(len(prompts), device=self.device)
        root = _Frontier(past, everyone, torch.zeros_like(everyone), torch.zeros_like(self.best), everyone)
        frontier, aside = self._children(root, past.read(self.net, ids)), []
        while len(frontier.record):
            first = _first_of_record(frontier, len(prompts))
            aside.append(frontier.keep(~first))
            frontier = frontier.keep(first & (frontier.score > self.best[frontier.record]))
            frontier = self._read(frontier) if len(frontier.record) else frontier
        return aside

    def _read(self, frontier: _Frontier) -> _Frontier:
        """Reads the last token of each prefix and returns the prefixes one token longer."""
        past = frontier.past.rows(frontier.row)
        log_probabilities = past.read(self.net, self.token[frontier.node, None])
        return self._children(replace(frontier, past=past), log_probabilities)

    def _children(self, frontier: _Frontier, log_probabilities: Tensor) -> _Frontier:
        """Extends each prefix by all children of its node; complete choices are settled, the others returned."""
        counts = self.count[frontier.node]
        row = torch.arange(len(counts), device=self.device).repeat_interleave(counts)
        offset = torch.arange(len(row), device=self.device) - (counts.cumsum(0) - counts)[row]
        node = self.first[frontier.node][row] + offset
        score = frontier.score[row] + log_probabilities[row, self.token[node]].double()
        children = _Frontier(frontier.past, frontier.record[row], node, score, row)
        complete = self.choice[node] >= 0
        self._settle(children.keep(complete))
        return children.keep(~complete & (score >= self.best[children.record]))

    def _settle(self, complete: _Frontier) -> None:
        before, choice = self.best.clone(), self.choice[complete.node]
        self.best.scatter_reduce_(0, complete.record, complete.score, "amax")
        self.winner[self.best > before] = len(self.choice)
        equal = complete.score == self.best[complete.record]
        self.winner.scatter_reduce_(0, complete.record[equal], choice[equal], "amin")


def _first_of_record(frontier: _Frontier, records: int) -> Tensor:
    """Marks [m] each record's likeliest prefix, one a record."""
    order = frontier.score.argsort(stable=True)  # the likeliest is written last
    last = torch.full((records,), -1, dtype=torch.int64, device=order.device)
    last = last.scatter_reduce(0, frontier.record[order], torch.arange(len(order), device=order.device), "amax")
    marked = torch.zeros(len(order), dtype=torch.bool, device=order.device)
    marked[order[last[last >= 0]]] = True
    return marked


def _left_padded(prompts: Sequence[NDArray[np.int32]], room: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Ids [b, t] and mask [b, t + room], 0 at the padding; no mask where all prompts are equally long."""
    width = max(map(len, prompts))
    ids = torch.zeros(len(prompts), width, dtype=torch.int64)
    mask = torch.ones(len(prompts), width + room, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.from_numpy(prompt.astype(np.int64))
        mask[row, : width - len(prompt)] = 0
    return ids.to(device), None if bool(mask.all()) else mask.to(device)
