"""Migration 0002 gives every event of an existing registry its new link, and the former one when it is taken back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DatabaseError

from coordinator.errors import ChainBroken
from coordinator.registry import Registry
from coordinator.registry.database import MIGRATIONS, migrate, open_engine
from coordinator.registry.records import NewRun
from tests.coordinator.postgresql import both

pytestmark = both
COLUMNS = "sequence, kind, run, at, body, previous_hash, hash"


@contextmanager
def written(engine: Engine) -> Iterator[Config]:
    """Alembic's configuration over a connection whose changes are kept."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        yield config


def rows(engine: Engine) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(f"SELECT {COLUMNS} FROM events ORDER BY sequence"))]


@pytest.fixture
def engine(location: str, clock: Callable[[], datetime], new_run: NewRun) -> Iterator[Engine]:
    """A registry with four events, one of them of no run and with letters outside of ASCII."""
    opened = open_engine(location, read_only=False)
    registry = Registry(opened, clock)
    run = registry.create_run(new_run, b"\1").run
    bodies: tuple[dict[str, object], ...] = ({"ü": "ß"}, {"n": 0.1}, {"n": None})
    for number, body in enumerate(bodies):
        registry.append_event("note", run if number else None, body)
    yield opened
    with written(opened) as config:
        command.downgrade(config, "base")
    opened.dispose()


def test_links_are_computed_anew_up_and_down(engine: Engine, location: str, clock: Callable[[], datetime]) -> None:
    new = rows(engine)
    with written(engine) as config:
        command.downgrade(config, "0001")
    former = rows(engine)
    assert [row[:5] for row in former] == [row[:5] for row in new]
    assert all(old[-1] != row[-1] for old, row in zip(former, new, strict=True))
    Registry.open(location, clock).close()
    assert rows(engine) == new
    assert Registry(engine, clock).verify_chain().length == 4


def test_former_links_are_those_of_the_version_that_wrote_them(engine: Engine, clock: Callable[[], datetime]) -> None:
    event = Registry(engine, clock).events()[2]
    with written(engine) as config:
        command.downgrade(config, "0001")
    content = f'[3,"note","{event.run}","{event.at.isoformat(timespec="microseconds")}","{{\\"n\\":0.1}}"]'.encode()
    before, after = (bytes.fromhex(str(row[-1])) for row in rows(engine)[1:3])
    assert hashlib.sha256(b"consortium event chain 1\0" + before + content).digest() == after


def test_events_stay_append_only(engine: Engine) -> None:
    for _ in range(2):
        for statement in ("UPDATE events SET body = '{}' WHERE sequence = 2", "DELETE FROM events WHERE sequence = 2"):
            with pytest.raises(DatabaseError, match="append-only"), engine.begin() as connection:
                connection.execute(text(statement))
        with written(engine) as config:
            command.downgrade(config, "0001")
        with engine.begin() as connection:
            migrate(connection)


def test_changed_event_is_not_linked_anew(location: str, clock: Callable[[], datetime], new_run: NewRun, tmp_path: Path) -> None:
    opened = create_engine(f"sqlite:///{tmp_path / 'changed.db'}")
    with opened.begin() as connection:
        migrate(connection)
    registry = Registry(opened, clock)
    registry.create_run(new_run, b"\1")
    with written(opened) as config:
        command.downgrade(config, "0001")
    with opened.begin() as connection:
        connection.execute(text("DROP TRIGGER events_no_update"))
        connection.execute(text("UPDATE events SET body = '{}'"))
        connection.execute(text("CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT 1; END"))
    before = rows(opened)
    with pytest.raises(ChainBroken, match="event 1 "), opened.begin() as connection:
        migrate(connection)
    assert rows(opened) == before
    opened.dispose()
