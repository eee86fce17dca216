"""Which errors are tried again, for how long, and that a commit whose answer was lost is not written twice."""

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from coordinator.errors import RegistryError
from coordinator.registry import Registry
from coordinator.registry.retrying import MOST_CONFLICTS, Patience, persist
from tests.coordinator.postgresql import PostgreSQL, both, on_postgresql


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now, self.pauses = 0.0, list[float]()

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)

    def patience(self, seconds: float) -> Patience:
        return Patience(seconds, self.sleep, lambda: self.now)


def failure(state: str | None = None, code: int | None = None) -> OperationalError:
    """As SQLAlchemy wraps a driver's error."""
    error: Any = sqlite3.OperationalError("no text decides anything")
    if code is None:
        error = type("DriverError", (Exception,), {"sqlstate": state})()
    else:
        error.sqlite_errorcode = code
    return OperationalError("statement", {}, error)


def failing(times: int, error: OperationalError) -> Callable[[], int]:
    """Fails so often, then returns how often it was called."""
    calls: list[None] = []

    def attempt() -> int:
        calls.append(None)
        if len(calls) <= times:
            raise error
        return len(calls)

    return attempt


CONFLICTS = [failure("40001"), failure("40P01"), failure("55P03"), failure(code=5), failure(code=6 | 1 << 8)]
OUTAGES = [failure(None), failure("57P01"), failure("57P03"), failure("08006"), failure("53300"), failure(code=10), failure(code=13)]


@pytest.mark.parametrize("error", CONFLICTS)
def test_conflict_is_tried_again_without_patience(error: OperationalError) -> None:
    time = Time()
    assert persist(failing(MOST_CONFLICTS, error), time.patience(0)) == MOST_CONFLICTS + 1
    assert time.pauses == sorted(set(time.pauses))
    with pytest.raises(OperationalError):
        persist(failing(MOST_CONFLICTS + 1, error), time.patience(0))


@pytest.mark.parametrize("error", OUTAGES)
def test_outage_is_waited_for_as_long_as_the_caller_is_patient(error: OperationalError) -> None:
    time = Time()
    assert persist(failing(30, error), time.patience(30)) == 31
    assert time.now == 30
    with pytest.raises(OperationalError):
        persist(failing(10**6, error), time.patience(30.5))
    assert time.now == 60.5
    with pytest.raises(OperationalError):
        persist(failing(1, error), time.patience(0))


@pytest.mark.parametrize("error", [failure("23505"), failure("42601"), failure(code=11), failure(code=19)])
def test_other_errors_are_not_tried_again(error: OperationalError) -> None:
    with pytest.raises(OperationalError):
        persist(failing(1, error), Time().patience(30))


@both
def test_commit_whose_answer_was_lost_is_written_once(registry: Registry) -> None:
    lost: list[None] = []

    @event.listens_for(registry._engine, "commit")
    def answer_lost(connection: Any) -> None:
        if not lost:
            lost.append(None)
            connection.connection.commit() if connection.dialect.name == "postgresql" else connection.exec_driver_sql("COMMIT")
            raise failure(None)

    time = Time()
    head = registry.patient(30, time.sleep, lambda: time.now).append_event("note", None, {"n": 1})
    assert (head, len(time.pauses)) == (registry.verify_chain(), 1)
    assert [one.kind for one in registry.events()] == ["note"]


@both
def test_commit_that_failed_is_repeated(registry: Registry) -> None:
    failed: list[None] = []

    @event.listens_for(registry._engine, "commit")
    def refuse(connection: Any) -> None:
        if not failed:
            failed.append(None)
            raise failure(None)

    time = Time()
    registry.patient(30, time.sleep, lambda: time.now).append_event("note", None, {"n": 1})
    assert [one.kind for one in registry.events()] == ["note"]


@pytest.mark.slow
@on_postgresql
def test_database_that_goes_away_is_one_sentence_or_waited_for(registry: Registry, server: PostgreSQL) -> None:
    if server.process is None:
        pytest.skip("the server of CONSORTIUM_DATABASE_URL is not ours to stop")
    registry.append_event("before", None, {})
    time = Time()

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        if time.now == 30:
            server.start()

    server.stop()
    try:
        for attempt in (registry.runs, lambda: registry.append_event("note", None, {})):
            with pytest.raises(RegistryError, match=r"cannot be (read|written) \(OperationalError\); start the database"):
                attempt()
        patient = registry.patient(60, sleep, lambda: time.now)
        patient.append_event("after", None, {})
    finally:
        server.start()
    assert time.now == 30
    assert [one.kind for one in registry.events()] == ["before", "after"]
    registry.verify_chain()
