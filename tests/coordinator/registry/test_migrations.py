"""The migrations make exactly the tables that the code declares, and can be taken back."""

import sqlite3
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from coordinator.errors import ChainBroken, RegistryError
from coordinator.registry import Registry
from coordinator.registry.database import MIGRATIONS, migrate
from coordinator.registry.records import Contribution, Round
from coordinator.registry.tables import Base
from coordinator.row_audit import audit_rounds

JOINING = {"invitations", "join_requests", "rotations", "vouchers", "answers", "withdrawals", "chain_head"}
TABLES = {"participants", "runs", "rounds", "contributions", "model_versions", "privacy_spend", "events", "leases"} | JOINING


def test_migrated_schema_equals_the_declared_one() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        migrate(connection)
        context = MigrationContext.configure(connection, opts={"compare_server_default": True, "target_metadata": Base.metadata})
        assert compare_metadata(context, Base.metadata) == []
        assert set(inspect(connection).get_table_names()) == TABLES | {"alembic_version"}
    engine.dispose()


def test_migrations_can_be_taken_back_and_applied_again() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        migrate(connection)
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]
        migrate(connection)
        assert set(inspect(connection).get_table_names()) > TABLES
    engine.dispose()


def test_opening_twice_migrates_once(tmp_path: Path, clock: Callable[[], datetime]) -> None:
    for _ in range(2):
        Registry.open(str(tmp_path / "registry.db"), clock).close()
    connection = sqlite3.connect(tmp_path / "registry.db")
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0004",)]
    connection.close()


def test_registry_of_a_newer_version_is_refused(tmp_path: Path, clock: Callable[[], datetime]) -> None:
    Registry.open(str(tmp_path / "registry.db"), clock).close()
    connection = sqlite3.connect(tmp_path / "registry.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(RegistryError, match="schema 9999, which this version does not know"):
        Registry.open(str(tmp_path / "registry.db"), clock)


def test_looking_for_a_registry_makes_none(tmp_path: Path, clock: Callable[[], datetime]) -> None:
    with pytest.raises(RegistryError, match="there is no registry at"):
        Registry.open(str(tmp_path / "absent.db"), clock, read_only=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", ["", "CREATE TABLE mine (a)", "CREATE TABLE alembic_version (version_num); INSERT INTO alembic_version VALUES ('0001')"]
)
def test_looking_at_a_database_that_is_no_registry_changes_nothing(tmp_path: Path, clock: Callable[[], datetime], content: str) -> None:
    path = tmp_path / "other?.db"
    path.touch()
    connection = sqlite3.connect(path)
    connection.executescript(content)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(RegistryError, match=r"other\?\.db is no registry"):
        Registry.open(str(path), clock, read_only=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_looking_at_a_registry_writes_nothing_beside_it_and_refuses_another_schema(tmp_path: Path, clock: Callable[[], datetime]) -> None:
    path = tmp_path / "registry.db"
    Registry.open(str(path), clock).close()
    before = path.read_bytes()
    registry = Registry.open(str(path), clock, read_only=True)
    assert registry.runs() == ()
    with pytest.raises(RegistryError, match="cannot be written"):
        registry.append_event("note", None, {})
    registry.close()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '0000'")
    connection.commit()
    connection.close()
    with pytest.raises(RegistryError, match="has schema 0000 and this version reads 0004"):
        Registry.open(str(path), clock, read_only=True)


def test_looking_sees_what_a_running_job_has_written(tmp_path: Path, clock: Callable[[], datetime]) -> None:
    job = Registry.open(str(tmp_path / "registry.db"), clock)
    job.append_event("note", None, {})
    looking = Registry.open(str(tmp_path / "registry.db"), clock, read_only=True)
    assert looking.head().length == 1
    job.append_event("note", None, {})
    assert looking.head().length == 2
    looking.close()
    job.close()


def test_damaged_registry_is_one_sentence(tmp_path: Path, clock: Callable[[], datetime]) -> None:
    path = tmp_path / "registry.db"
    Registry.open(str(path), clock).close()
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    with pytest.raises(RegistryError, match="cannot be (read|opened)"):
        Registry.open(str(path), clock, read_only=True).events()


@pytest.mark.parametrize("read_only", [True, False])
def test_missing_driver_is_one_sentence(clock: Callable[[], datetime], monkeypatch: pytest.MonkeyPatch, read_only: bool) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as where it is not installed
    with pytest.raises(RegistryError, match=r"needs the Python package psycopg; install consortium\[postgresql\]") as raised:
        Registry.open("postgresql://me:secret@host/registry", clock, read_only=read_only)
    assert "secret" not in str(raised.value)


def test_file_that_is_no_database_is_refused(tmp_path: Path, clock: Callable[[], datetime]) -> None:
    (tmp_path / "notes.db").write_text("these are only notes, " * 100)
    with pytest.raises(RegistryError, match="cannot be opened as a registry"):
        Registry.open(str(tmp_path / "notes.db"), clock)
    assert (tmp_path / "notes.db").read_text().startswith("these are only notes")


def test_password_of_a_url_is_not_repeated(clock: Callable[[], datetime]) -> None:
    with pytest.raises(RegistryError) as raised:
        Registry.open("nosuch://me:secret@host/registry", clock)
    assert "secret" not in str(raised.value)


def test_registry_on_disk_is_durable(tmp_path: Path, clock: Callable[[], datetime]) -> None:
    registry = Registry.open(str(tmp_path / "registry.db"), clock)
    with registry._engine.connect() as connection:
        pragma = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")}
    registry.close()
    assert pragma == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_rounds_of_an_earlier_version_have_no_figures_and_agree_with_their_events(
    tmp_path: Path, clock: Callable[[], datetime], registry: Registry, running: str
) -> None:
    parts = (Contribution("amber", 10, 20),)
    registry.record_round(running, Round(0, "c" * 64, {"update": "1" * 64}, parts, 1.25, 0.5, 0.75, figures={"acceptance": 0.5}))
    registry.close()
    engine = create_engine(f"sqlite:///{tmp_path / 'registry.db'}")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0002")
        assert "figures" not in {column["name"] for column in inspect(connection).get_columns("rounds")}
    engine.dispose()
    again = Registry.open(str(tmp_path / "registry.db"), clock)
    (found,), (event,) = again.rounds(running), [one for one in again.events() if one.kind == "round-finished"]
    again.close()
    assert found.figures == {}
    earlier = replace(event, body=event.body.replace('"figures":{"acceptance":0.5},', ""))
    assert audit_rounds(running, [earlier], [found])
    with pytest.raises(ChainBroken, match="number 0: `figures` not as"):
        audit_rounds(running, [event], [found])
