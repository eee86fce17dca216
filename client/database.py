"""Rows of a database query, each with its place for error messages. The database is only read, and no password is ever shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from client.errors import RecordError
from client.sources import Row


def read_query(source: str, query: str) -> list[Row]:
    """Every row that `query` gives at the SQLAlchemy URL `source`, in the order of the answer.

    Raises:
        RecordError: the URL, its driver or the query cannot be used, or a value is no text, number or time.
    """
    shown = shown_source(source)
    try:
        names, found = _fetch(_read_only(_parsed(source)), query)
    except (ArgumentError, NoSuchModuleError):
        raise RecordError(f"{shown}: not a database URL that is understood; correct records.source, such as sqlite:///x.db") from None
    except ModuleNotFoundError as error:
        raise RecordError(f"{shown}: the Python package {error.name}, the database's driver, is missing; install it") from None
    except SQLAlchemyError as error:
        # A database's own text may quote a record, so only the kind of the error is told.
        cause = type(error.orig if isinstance(error, DBAPIError) else error).__name__
        raise RecordError(f"{shown}: records.query cannot be answered ({cause}); try both with the database's own program") from None
    _check_columns(names, shown)
    if not found:
        raise RecordError(f"{shown}: records.query gives no rows; correct it")
    return [_row(names, values, f"{shown}, row {number}") for number, values in enumerate(found, start=1)]


def shown_source(source: str) -> str:
    """A source as it may be printed: of a URL without password and options, a path as it is."""
    if "://" not in source:
        return source
    try:
        return _parsed(source).set(query={}).render_as_string()
    except ArgumentError:
        return "the database's URL"


def absolute_source(source: str, folder: Path) -> str:
    """The source with a relative path, also that of a SQLite URL, taken from `folder`."""
    if "://" not in source:
        return str(folder / source)
    try:
        url = _parsed(source)
    except ArgumentError:
        return source  # reading it says what is wrong
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:") or str(url.database).startswith("file:"):
        return source
    return url.set(database=str(folder / str(url.database))).render_as_string(hide_password=False)


def _parsed(source: str) -> URL:
    try:
        return make_url(source)
    except ValueError:
        raise ArgumentError("the port is no number") from None


def _read_only(url: URL) -> URL:
    """SQLite's driver makes a file that is not there, unless it is told to read alone."""
    if url.drivername == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite" or str(url.database).startswith("file:"):
        return url
    path = Path(url.database or "")
    if not path.is_file():
        raise RecordError(f"{url.database or 'sqlite://'}: there is no database file at this path; correct records.source")
    return url.set(database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})


def _fetch(url: URL, query: str) -> tuple[list[str], list[Sequence[Any]]]:
    # Nothing is committed: a query that changes something is undone.
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        answer = connection.execute(text(query.replace(":", "\\:")))
        return list(answer.keys()), [tuple(row) for row in answer]


def _check_columns(names: Sequence[str], shown: str) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise RecordError(f"{shown}: column {twice[0]} occurs twice in records.query; rename one with AS")


def _row(names: Sequence[str], values: Sequence[Any], place: str) -> Row:
    return Row({name: _plain(value, name, place) for name, value in zip(names, values, strict=True)}, place)


def _plain(value: Any, name: str, place: str) -> Any:
    if isinstance(value, (bytes, memoryview)):
        raise RecordError(f"{place}: column {name} holds bytes; turn them into text in records.query")
    if value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)
