"""Every schema up and down with data in it, on both databases: rows stay where the schema has a place for them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from coordinator.errors import RegistryError
from coordinator.registry import Registry
from coordinator.registry.database import url_of
from coordinator.registry.maintenance import Schema, back_up, move_schema, schema_of
from coordinator.registry.records import Contribution, Invitation, JoinRequest, ModelVersion, Round, Run
from coordinator.release import TrainedModel
from tests.coordinator.postgresql import PostgreSQL, both

NEWEST = "0004"
EARLIER = ("0003", "0002", "0001")


@pytest.fixture
def filled(location: str, registry: Registry, trained: TrainedModel) -> str:
    """Rows in every table; returns the run."""
    registry.add_model_version(ModelVersion("triage", 1, trained.run, "triage/1", "a" * 64, "d" * 64, "e" * 64, 0.5))
    registry.withdraw_model("triage", 1, "an institution withdrew")
    registry.invite(Invitation("elder", "f" * 64, datetime.fromisoformat("2031-01-01T00:00:00+00:00")))
    registry.request_join(JoinRequest("elder", "9" * 64, "node", "csr", "0" * 128))
    registry.approve("elder", "8" * 64)
    registry.rotate("amber", "7" * 64, "0" * 128)
    registry.take_lease("run", "owner", 1000)
    return trained.run


def of_first_schema(registry: Registry, run: str) -> tuple[Run, tuple[Round, ...], tuple[ModelVersion, ...], list[tuple[str, str]]]:
    """What the tables of 0001 have a place for."""
    rounds = tuple(replace(one, figures={}) for one in registry.rounds(run))
    versions = tuple(replace(one, withdrawn_at=None, withdrawn_reason="") for one in registry.model_versions())
    return registry.run(run), rounds, versions, [(one.name, one.public_key) for one in registry.participants()]


@both
def test_rows_and_chain_survive_every_schema(location: str, registry: Registry, filled: str, clock: Callable[[], datetime]) -> None:
    before, head, events = of_first_schema(registry, filled), registry.head(), registry.events()
    registry.close()
    for revision in EARLIER:
        assert move_schema(location, revision) == Schema(revision, NEWEST)
    for revision in ("0002", "0003"):
        assert move_schema(location, revision).present == revision
    again = Registry.open(location, clock)
    assert (of_first_schema(again, filled), again.verify_chain(), again.events()) == (before, head, events)
    assert again.model_versions()[0].withdrawn_at is None
    assert (again.join_requests(), again.take_lease("run", "another", 1, gone=lambda _: True)) == ((), 1)
    assert again.append_event("note", None, {}).length == head.length + 1
    again.close()


@both
def test_first_schema_keeps_its_rows(location: str, registry: Registry, filled: str) -> None:
    registry.close()
    move_schema(location, "0001")
    engine = create_engine(url_of(location).set(drivername="postgresql+psycopg") if "://" in location else f"sqlite:///{location}")
    with engine.connect() as connection:
        names = ("participants", "runs", "rounds", "contributions", "model_versions", "leases")
        counts = [connection.scalar(text(f"SELECT COUNT(*) FROM {name}")) for name in names]
        assert counts == [5, 1, 3, 12, 1, 1]
        assert {"invitations", "chain_head"}.isdisjoint(inspect(connection).get_table_names())
    engine.dispose()


@both
def test_reader_of_an_older_schema_is_told_to_upgrade(location: str, registry: Registry, clock: Callable[[], datetime]) -> None:
    registry.close()
    move_schema(location, "0003")
    with pytest.raises(RegistryError, match="has schema 0003 and this version reads 0004; stop its coordinator and run"):
        Registry.open(location, clock, read_only=True)
    with pytest.raises(RegistryError, match="there is no schema 0009; this version knows 0001 to 0004"):
        move_schema(location, "0009")
    assert schema_of(location) == Schema("0003", NEWEST)


def test_upgrade_fills_an_empty_database_of_postgresql_and_makes_no_file(empty_location: str, tmp_path: Path) -> None:
    assert schema_of(empty_location).present is None
    assert move_schema(empty_location).present == NEWEST
    with pytest.raises(RegistryError, match="there is no registry at"):
        move_schema(str(tmp_path / "typo.db"))
    assert list(tmp_path.iterdir()) == []


def test_copy_of_a_registry_in_use_is_a_registry(registry: Registry, running: str, clock: Callable[[], datetime], tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    back_up(str(tmp_path / "registry.db"), target)
    head, run = registry.head(), registry.run(running)
    registry.record_round(running, Round(0, "c" * 64, {}, (Contribution("amber", 1, 2),), 1.0))
    restored = Registry.open(str(target), clock)
    assert (restored.verify_chain(), restored.run(running), restored.rounds(running)) == (head, run, ())
    restored.record_round(running, Round(0, "c" * 64, {}, (Contribution("amber", 1, 2),), 1.0))
    restored.close()
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(RegistryError, match="exists and is not written over"):
        back_up(str(tmp_path / "registry.db"), target)
    with pytest.raises(RegistryError, match="cannot be written"):
        back_up(str(tmp_path / "registry.db"), tmp_path / "absent" / "copy.db")


def test_copy_of_postgresql_is_left_to_its_own_tool(server: PostgreSQL, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="pg_dump"):
        back_up(server.url, tmp_path / "copy.db")
