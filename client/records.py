"""An institution's records as a plan sees them: its fields under the plan's names, divided into training and test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from client.database import read_query, shown_source
from client.errors import RecordError
from client.settings import RecordSettings
from client.sources import Row, read_rows
from client.template import parse_template
from protocols.plan import Plan, RecordTemplates


@dataclass(frozen=True, slots=True)
class Record:
    """One record: the plan's fields as text, and where it came from."""

    values: Mapping[str, str]
    place: str
    group: str = ""  # of which it is one of several, where the settings name a column


@dataclass(frozen=True, slots=True)
class Records:
    """Training and test records, in the order of the files; neither is empty."""

    train: tuple[Record, ...]
    test: tuple[Record, ...]


def read_records(settings: RecordSettings, plan: Plan) -> Records:
    """Reads, maps and divides an institution's records.

    Raises:
        RecordError: what cannot be used, naming file, line and field; nothing is left half-read.
    """
    plan_fields(plan.records)  # a wrong template is found before any file is read
    return divide_records(read_source(settings), settings, plan)


def read_source(settings: RecordSettings) -> list[Row]:
    """Every row of an institution's records, with all its columns.

    Raises:
        RecordError: the source cannot be read.
    """
    return read_query(settings.source, settings.query) if settings.query else read_rows(settings.source)


def divide_records(rows: Sequence[Row], settings: RecordSettings, plan: Plan) -> Records:
    """Maps and divides rows that were read already.

    Raises:
        RecordError: as `read_records`.
    """
    fields = plan_fields(plan.records)
    splits = _split_by_column(rows, settings) if settings.split else _split_by_hash(rows, settings)
    columns = {field: settings.column(field, plan.name) for field in fields}
    chosen: dict[str, list[Record]] = {"train": [], "test": []}
    for row, split in zip(rows, splits, strict=True):
        if split in chosen:
            group = _text(row, settings.group) if settings.group else ""
            chosen[split].append(Record({field: _text(row, column) for field, column in columns.items()}, row.place, group))
    for split, name in (("train", "training"), ("test", "test")):
        if not chosen[split]:
            how = f'no row has {split} in column "{settings.split}"' if settings.split else "too few rows for test_fraction"
            raise RecordError(f"{shown_source(settings.source)}: there are no {name} records ({how}); add some or change [records]")
    return Records(tuple(chosen["train"]), tuple(chosen["test"]))


def plan_fields(templates: RecordTemplates) -> tuple[str, ...]:
    """The fields that a plan reads, in order of appearance.

    Raises:
        RecordError: a template asks for more than fields.
    """
    if templates.messages:
        return (templates.messages,)
    parsed = [parse_template(getattr(templates, name), f"records.{name}") for name in ("prompt", "target")]
    return tuple(dict.fromkeys(field for template in parsed for field in template.fields))


def _split_by_column(rows: Sequence[Row], settings: RecordSettings) -> list[str]:
    splits = [_text(row, settings.split) for row in rows]
    if settings.group:
        first: dict[str, tuple[str, Row]] = {}
        for row, split in zip(rows, splits, strict=True):
            other, earlier = first.setdefault(_text(row, settings.group), (split, row))
            if {split, other} == {"train", "test"}:
                raise RecordError(f"{row.place}: a {split} record whose group has a {other} one at {earlier.place}; put both on one side")
    return splits


def _split_by_hash(rows: Sequence[Row], settings: RecordSettings) -> list[str]:
    """The same record is on the same side at every reading, whatever else the files hold."""
    key = settings.group or settings.id
    bound = int((settings.test_fraction or 0.0) * 2**64)
    keys = [_text(row, key) if key else json.dumps(row.values, sort_keys=True, default=str) for row in rows]
    return ["test" if _hash(key) < bound else "train" for key in keys]


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.sha256(b"consortium test record\0" + key.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _text(row: Row, column: str) -> str:
    value = row.values.get(column)
    if value is None:
        state = "empty" if column in row.values else "missing"
        raise RecordError(
            f"{row.place}: field {column} is {state}; fill it, correct the plan's [records], or map another column in [records.fields]"
        )
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RecordError(f"{row.place}: field {column} holds half a surrogate pair, no character; export the records again") from None
    return text
