"""The closed list of targets as a trie of tokens, and the correction of an institution's label skew on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.errors import RecordError


@dataclass(frozen=True, slots=True)
class ChoiceTrie:
    """Token sequences, end token included, that share their beginnings. Node 0 is the root; a node's children are consecutive.

    tokens [n] lead into each node; first_child and child_count [n]; choice [n] is the index of the choice that ends there, or -1.
    """

    tokens: NDArray[np.int64]
    first_child: NDArray[np.int64]
    child_count: NDArray[np.int64]
    choice: NDArray[np.int64]

    @property
    def depth(self) -> int:
        """Tokens of the longest choice."""
        depth, level = 0, np.zeros(1, np.int64)
        while len(level := self.children(level)):
            depth += 1
        return depth

    def children(self, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """All children of `nodes`, in order."""
        counts = self.child_count[nodes]
        starts = np.repeat(self.first_child[nodes] - np.cumsum(counts) + counts, counts)
        return starts + np.arange(counts.sum())

    def path(self, tokens: Sequence[int]) -> list[int]:
        """The nodes that `tokens` lead through from the root, the root included; shorter if they leave the trie."""
        nodes = [0]
        for token in tokens:
            start, count = self.first_child[nodes[-1]], self.child_count[nodes[-1]]
            found = np.flatnonzero(self.tokens[start : start + count] == token)
            if not len(found):
                break
            nodes.append(int(start + found[0]))
        return nodes


def build_trie(sequences: Sequence[Sequence[int]]) -> ChoiceTrie:
    """The trie of token sequences, none of which is the beginning of another (each ends with the end token).

    Raises:
        RecordError: the list is empty or a sequence occurs twice.
    """
    if len(set(map(tuple, sequences))) < max(len(sequences), 1):
        raise RecordError("evaluation.choices is empty or holds the same choice twice; list each possible target once")
    tokens, first, count, choice = [-1], [0], [0], [-1]
    level: list[tuple[int, int, list[int]]] = [(0, 0, list(range(len(sequences))))]  # node, depth, choices below it
    for node, depth, below in level:  # grows while it is read: breadth first, so children are consecutive
        groups: dict[int, list[int]] = {}
        for index in below:
            if depth < len(sequences[index]):
                groups.setdefault(sequences[index][depth], []).append(index)
        first[node], count[node] = len(tokens), len(groups)
        for token, members in groups.items():
            ends = depth + 1 == len(sequences[members[0]])
            level.append((len(tokens), depth + 1, members))
            tokens.append(token)
            choice.append(members[0] if ends else -1)
        first += [0] * len(groups)
        count += [0] * len(groups)
    return ChoiceTrie(*(np.array(values, np.int64) for values in (tokens, first, count, choice)))


@dataclass(frozen=True, slots=True)
class PriorCorrection:
    """What is added in training to the logits of `columns` [m] at the target's token `offsets` [m]; `length` is the target's."""

    offsets: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float32]
    length: int


def choice_counts(trie: ChoiceTrie, targets: Sequence[Sequence[int]], weights: Sequence[float] | None = None) -> NDArray[np.float64]:
    """How often each choice is a target, [choices], each time with its weight; targets outside the list are left out."""
    counts = np.zeros(int(trie.choice.max()) + 1)
    for target, weight in zip(targets, weights or [1.0] * len(targets), strict=True):
        choice = trie.choice[trie.path(target)[-1]]
        if choice >= 0:
            counts[choice] += weight
    return counts


def _below(trie: ChoiceTrie, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The counts of all choices below each node, [n]; children stand behind their parents."""
    sums = np.where(trie.choice >= 0, counts[trie.choice], 0.0)
    for node in reversed(np.flatnonzero(trie.child_count)):
        sums[node] = sums[trie.children(np.array([node]))].sum()
    return sums


class LabelPrior:
    """Logit adjustment against label skew (Menon et al. 2021; FedLC, Zhang et al. 2022), factored over the trie.

    At every node a child gets log((own training records below it + 0.5) / mean of that over the node's children), in training
    only: the network then learns what is likely given the text, not which labels this institution happens to have. Tokens
    outside the trie stay as they are, so that the full softmax keeps its meaning.
    """

    def __init__(self, trie: ChoiceTrie, targets: Sequence[Sequence[int]], counts: NDArray[np.float64] | None = None) -> None:
        """`counts` [choices] stand for those of the targets, with noise where the run is private."""
        self._trie = trie
        self._smoothed = _below(trie, choice_counts(trie, targets) if counts is None else counts) + 0.5
        self._corrections = {target: self._along(target) for target in set(map(tuple, targets))}

    def correction(self, target: Sequence[int]) -> PriorCorrection:
        """The adjustment along one of the training targets, end token included; none where a target has left the trie."""
        return self._corrections[tuple(target)]

    def _along(self, target: tuple[int, ...]) -> PriorCorrection:
        parts = [self._at(offset, node) for offset, node in enumerate(self._trie.path(target)[: len(target)])]
        offsets, columns, values = (np.concatenate(column) for column in zip(*parts, strict=True))
        return PriorCorrection(offsets, columns, values.astype(np.float32), len(target))

    def _at(self, offset: int, node: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        start, count = self._trie.first_child[node], self._trie.child_count[node]
        children = slice(start, start + count) if count > 1 else slice(0, 0)
        values = self._smoothed[children]
        adjusted = np.log(values / values.mean()) if len(values) else values
        return np.full(len(values), offset), self._trie.tokens[children], adjusted
