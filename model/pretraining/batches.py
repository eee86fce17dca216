"""Batches of records of like length: little padding, about the same number of tokens each."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from model.pretraining.tasks import IGNORED, Drawn
from model.training import Batch

_POOL = 2000  # records sorted by length together


def record_batches(
    draw: Callable[[str], Drawn], shares: Mapping[str, float], tokens: int, padding: int, rng: random.Random
) -> Iterator[Batch]:
    """Endless batches [b, t] with b * t <= `tokens`; tasks are drawn by their shares."""
    names, weights = list(shares), list(shares.values())
    while True:
        pool = sorted((draw(name) for name in rng.choices(names, weights, k=_POOL)), key=lambda record: len(record.ids))
        groups = list(_groups(pool, tokens))
        rng.shuffle(groups)
        for group in groups:
            valid = _pad([[1] * len(record.ids) for record in group], 0).bool()
            yield Batch(_pad([r.ids for r in group], padding), _pad([r.targets for r in group], IGNORED), valid)


def _groups(pool: Sequence[Drawn], tokens: int) -> Iterator[list[Drawn]]:
    group: list[Drawn] = []
    for record in pool:
        if group and len(record.ids) * (len(group) + 1) > tokens:
            yield group
            group = []
        group.append(record)
    yield group


def _pad(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])
