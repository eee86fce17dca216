"""Rows of JSONL, CSV and Parquet files, each with its place for error messages. Values stay as the file has them."""

from __future__ import annotations

import csv
import glob
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.errors import RecordError


@dataclass(frozen=True, slots=True)
class Row:
    """One record as stored."""

    values: dict[str, Any]
    place: str  # "FILE, line 3"


def read_rows(source: str) -> list[Row]:
    """Every row of the files that `source` names, a path or a pattern with * and ?; files in order of their names.

    Raises:
        RecordError: no file, an empty one, an unknown format, a wrong encoding or a broken line.
    """
    found = [source] if Path(source).is_file() else sorted(glob.glob(source, recursive=True))  # noqa: PTH207 (the pattern is absolute)
    paths = [Path(path) for path in found]
    if not paths:
        raise RecordError(f"{source}: there is no file at this path; correct the path of the records")
    return [row for path in paths for row in _read_file(path)]


def _read_file(path: Path) -> list[Row]:
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise RecordError(f"{path}: records are read from .jsonl, .csv and .parquet files; convert the file or correct its name")
    try:
        rows = list(reader(path))
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions") from None
    if not rows:
        raise RecordError(f"{path}: the file holds no records; correct records.source or fill the file")
    return rows


def _jsonl(path: Path) -> Iterator[Row]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            values = json.loads(line)
        except ValueError as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be parsed"
            raise RecordError(f"{place}: not valid JSON ({reason}); each line must hold one object") from None
        if not isinstance(values, dict):
            raise RecordError(f"{place}: not a JSON object; each line must hold one object with named fields")
        yield Row(values, place)


def _csv(path: Path) -> Iterator[Row]:
    # The default limit of 128 KiB a field is a clinical note's length; a larger one has no drawback.
    csv.field_size_limit(sys.maxsize)
    lines = [line for _, line in _lines(path)]
    reader = csv.reader(lines, strict=True, delimiter=_separator(lines[0]) if lines else ",")
    try:
        header = next(reader, [])
        _check_header(header, path)
        for cells in reader:
            place = f"{path}, line {reader.line_num}"
            if cells and len(cells) != len(header):
                raise RecordError(
                    f"{place}: {len(cells)} cells, but the header has {len(header)}; quote cells with separators or line ends"
                )
            if cells:
                yield Row(dict(zip(header, cells, strict=True)), place)
    except csv.Error as error:
        raise RecordError(f"{path}, line {reader.line_num}: not valid CSV ({error}); quote cells with quotes or line ends") from None


def _separator(first: str) -> str:
    """The comma, or the semicolon where it gives the first line more columns: spreadsheets of many countries write it."""
    return max(",;", key=lambda separator: len(next(csv.reader([first], delimiter=separator), [])))


def _check_header(header: list[str], path: Path) -> None:
    for name in header:
        if not name.strip():
            raise RecordError(f"{path}, line 1: a column has no name; the first line must name every column")
        if header.count(name) > 1:
            raise RecordError(f"{path}, line 1: column {name} occurs twice; rename one")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise RecordError(f"{path}, line {number}: not UTF-8 text at byte {error.start + 1}; save the file as UTF-8") from None
            if "\0" in text:
                raise RecordError(f"{path}, line {number}: a zero byte, so this is no text; save the file as UTF-8")
            yield number, text


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        batches = list(file.iter_batches())
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):
        raise RecordError(f"{path}: not a readable Parquet file; export it again") from None
    number = 0
    for batch in batches:
        for values in batch.to_pylist():
            number += 1
            yield Row(values, f"{path}, row {number}")
