"""What an operator does to a registry as a whole: see its schema, move it up or down, copy it while it is in use."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from alembic.config import Config
from sqlalchemy import URL, Engine

from coordinator.errors import RegistryError
from coordinator.registry.database import engine_of, explained, migrate, reading_engine_of, revision_of, script_of, url_of


@dataclass(frozen=True, slots=True)
class Schema:
    """The registry's revision, None where there are no tables of ours, and the newest that this version knows."""

    present: str | None
    newest: str


def schema_of(location: str) -> Schema:
    """Looks without changing anything; raises RegistryError if nothing can be opened there."""
    with explained(location), _used_once(reading_engine_of(url_of(location))) as engine, engine.connect() as connection:
        present = revision_of(connection)
    return Schema(present, script_of(Config()).get_heads()[0])


def move_schema(location: str, revision: str = "head") -> Schema:
    """Brings an existing SQLite file, or any database of PostgreSQL, to a revision, in one transaction.

    Going down drops what the earlier schema has no place for; the event chain stays.

    Raises:
        RegistryError: there is no such file or revision, or the registry is damaged.
    """
    schema_of(location)
    with (
        explained(location),
        _used_once(engine_of(url_of(location))) as engine,
        engine.connect().execution_options(writes=True) as connection,
        connection.begin(),
    ):
        migrate(connection, revision)
    return schema_of(location)


def back_up(location: str, target: Path) -> None:
    """Copies a SQLite registry to a new file that only its owner reads; writers may go on meanwhile.

    Raises:
        RegistryError: the target exists, or the registry is in PostgreSQL, which brings its own tool.
    """
    with explained(location):
        url = url_of(location)
        if url.get_backend_name() != "sqlite":
            raise RegistryError("PostgreSQL copies a registry itself: run `pg_dump --format=custom`, and pg_restore to go back")
        schema_of(location)
    if target.exists():
        raise RegistryError(f"{target} exists and is not written over; name a new file")
    draft = target.with_name(target.name + ".partial")
    try:
        _copy(url, draft)
        draft.replace(target)
        _sync(target.parent, os.O_DIRECTORY)
    except (OSError, sqlite3.Error) as error:
        draft.unlink(missing_ok=True)
        raise RegistryError(f"{target} cannot be written ({error}); check the folder, its rights and its space") from None


@contextmanager
def _used_once(engine: Engine) -> Iterator[Engine]:
    try:
        yield engine
    finally:
        engine.dispose()


def _copy(url: URL, draft: Path) -> None:
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(sqlite3.connect(str(url.database))) as source, closing(sqlite3.connect(draft)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
    _sync(draft)


def _sync(path: Path, flags: int = 0) -> None:
    """Waits until the disk has it."""
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
