"""What [privacy] protects, as rows of training examples: single records, or all records of one group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from client.dataset import Dataset

Rows = tuple[int, ...]  # of one unit


def units_of(dataset: Dataset, unit: str) -> tuple[Rows, ...]:
    """Each unit's examples; none where groups are asked for and no column names them."""
    if unit == "record":
        return tuple((row,) for row in range(len(dataset.examples)))
    found: dict[str, list[int]] = {}
    for row, group in enumerate(dataset.groups):
        found.setdefault(group, []).append(row)
    return tuple(tuple(rows) for rows in found.values())


def parts_of(units: Sequence[Rows], drawn: NDArray[np.int64], most_rows: int) -> Iterator[list[Rows]]:
    """The units drawn for a step, in pieces of at most `most_rows` examples; a larger unit is a piece of its own."""
    part: list[Rows] = []
    rows = 0
    for index in drawn:
        unit = units[index]
        if part and rows + len(unit) > most_rows:
            yield part
            part, rows = [], 0
        part.append(unit)
        rows += len(unit)
    if part:
        yield part


def label_weights(units: Sequence[Rows], examples: int) -> list[float]:
    """What each example counts, so that every unit adds 1 in all."""
    weights = [0.0] * examples
    for rows in units:
        for row in rows:
            weights[row] = 1.0 / len(rows)
    return weights
