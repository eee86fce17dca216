"""Divides one file of records among simulated institutions: by a field, by a Dirichlet draw over a label, or evenly."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from client.errors import RecordError
from client.order import generator
from client.sources import Row, read_rows
from protocols.plan import ByField, Dirichlet, Simulation

SPLIT = "split"
TEST_SHARE = 5  # without a split column every fifth record is a test record

Parts = dict[str, list[Row]]


def read_source(source: str, seed: int) -> list[Row]:
    """Training and test records of a file, each with its side in the column `split`; others are left out.

    A file without that column is divided at random.

    Raises:
        RecordError: the file cannot be used, or one side is empty.
    """
    # As JSON has them: dates of a Parquet file are text here as they are in an institution's copy.
    rows = [replace(row, values=json.loads(json.dumps(row.values, default=str))) for row in read_rows(source)]
    if not any(SPLIT in row.values for row in rows):
        order = generator(seed, "split").permutation(len(rows))
        rows = [_with_split(row, "test" if place % TEST_SHARE == 0 else "train") for row, place in zip(rows, order, strict=True)]
    kept = [row for row in rows if row.values.get(SPLIT) in ("train", "test")]
    for side, name in (("train", "training"), ("test", "test")):
        if not _side(kept, side):
            raise RecordError(f"{source}: there are no {name} records; give some rows {side} in column {SPLIT}, or leave the column out")
    return kept


def partition(rows: Sequence[Row], simulation: Simulation, seed: int) -> Parts:
    """Each institution's records by its name, the largest first; the same for the same rows and seed.

    Raises:
        RecordError: there are fewer institutions than the plan asks for, or one would be without training or test records.
    """
    rule = simulation.partition
    if isinstance(rule, ByField):
        parts = _by_field(rows, rule.field, simulation.institutions)
    elif isinstance(rule, Dirichlet):
        parts = _by_label(rows, rule, simulation.institutions, seed)
    else:
        parts = _evenly(rows, simulation.institutions, seed)
    for name, part in parts.items():
        for side in ("train", "test"):
            if not _side(part, side):
                raise RecordError(f"institution {name} would have no {side} records; take fewer institutions, more records or another seed")
    return {name: _limited(part, simulation.max_records, seed, name) for name, part in parts.items()}


def _by_field(rows: Sequence[Row], field: str, institutions: int) -> Parts:
    groups: Parts = {}
    for row in rows:
        groups.setdefault(_value(row, field), []).append(row)
    if len(groups) < institutions:
        raise RecordError(f"field {field} has {len(groups)} values, fewer than simulation.institutions = {institutions}; lower the number")
    largest = sorted(groups, key=lambda value: (-len(groups[value]), value))[:institutions]
    return dict(zip(_names(largest), (groups[value] for value in largest), strict=True))


def _by_label(rows: Sequence[Row], rule: Dirichlet, institutions: int, seed: int) -> Parts:
    """Every label's records, training and test alike, are divided in proportions drawn from a symmetric Dirichlet distribution."""
    random = generator(seed, "partition")
    parts: Parts = _numbered(institutions)
    labels: Parts = {}
    for row in rows:
        labels.setdefault(_value(row, rule.dirichlet), []).append(row)
    for label in sorted(labels):
        proportions = random.dirichlet(np.full(institutions, rule.alpha))
        for side in ("train", "test"):
            members = _side(labels[label], side)
            shuffled = [members[index] for index in random.permutation(len(members))]
            # Rounding the cumulated shares gives each record to exactly one institution.
            ends = np.rint(np.cumsum(proportions) * len(members)).astype(int)
            for part, start, end in zip(parts.values(), [0, *ends[:-1]], ends, strict=True):
                part.extend(shuffled[start:end])
    return _in_order(parts, rows)


def _evenly(rows: Sequence[Row], institutions: int, seed: int) -> Parts:
    random, parts = generator(seed, "partition"), _numbered(institutions)
    for side in ("train", "test"):
        members = _side(rows, side)
        order = random.permutation(len(members))
        for number, part in enumerate(parts.values()):
            part.extend(members[index] for index in order[number::institutions])
    return _in_order(parts, rows)


def _limited(part: list[Row], max_records: int, seed: int, name: str) -> list[Row]:
    """At most `max_records` training records, drawn at random, and all test records."""
    train = [index for index, row in enumerate(part) if row.values[SPLIT] == "train"]
    if not max_records or len(train) <= max_records:
        return part
    left_out = generator(seed, f"records of {name}").permutation(train)[max_records:]
    dropped = set(left_out.tolist())
    return [row for index, row in enumerate(part) if index not in dropped]


def _in_order(parts: Parts, rows: Sequence[Row]) -> Parts:
    place = {id(row): number for number, row in enumerate(rows)}
    return {name: sorted(part, key=lambda row: place[id(row)]) for name, part in parts.items()}


def _numbered(institutions: int) -> Parts:
    return {f"institution-{number}": [] for number in range(1, institutions + 1)}


def _names(values: Iterable[str]) -> list[str]:
    """Directory names made of field values, all different."""
    names: list[str] = []
    for value in values:
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", value).strip("-")[:48] or "institution"
        names.append(name if name.lower() not in {n.lower() for n in names} else f"{name}-{len(names) + 1}")
    return names


def _side(rows: Iterable[Row], side: str) -> list[Row]:
    return [row for row in rows if row.values[SPLIT] == side]


def _with_split(row: Row, side: str) -> Row:
    values: Mapping[str, object] = {**row.values, SPLIT: side}
    return replace(row, values=dict(values))


def _value(row: Row, field: str) -> str:
    value = row.values.get(field)
    if value is None:
        raise RecordError(f"{row.place}: field {field}, by which simulation.partition divides, is missing")
    return str(value)
