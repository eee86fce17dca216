"""The migrations make exactly the tables that the code declares, and can be taken back."""

import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from coordinator.errors import RegistryError
from coordinator.registry import Registry
from coordinator.registry.database import MIGRATIONS, migrate
from coordinator.registry.tables import Base

TABLES = {"participants", "runs", "rounds", "contributions", "model_versions", "privacy_spend", "events", "leases"}


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
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
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
        Registry.open(str(tmp_path / "absent.db"), clock, create=False)
    assert list(tmp_path.iterdir()) == []


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
