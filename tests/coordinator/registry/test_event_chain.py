"""Events are appended, never changed; a change by force is found at its row."""

from collections.abc import Callable
from datetime import datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from coordinator.errors import ChainBroken
from coordinator.registry import Registry
from protocols.chain import GENESIS, check_extension
from tests.coordinator.postgresql import both, engine_of, forced


@both
def test_empty_chain_begins_at_genesis(registry: Registry) -> None:
    head = registry.verify_chain()
    assert (head.length, head.hash) == (0, GENESIS)


@both
def test_every_change_is_an_event(registry: Registry, running: str) -> None:
    kinds = [event.kind for event in registry.events(running)]
    assert kinds == ["run-submitted", "run-state", "run-state"]
    assert registry.append_event("note", None, {"b": 1, "a": "ü"}) == registry.head() == registry.verify_chain()
    assert registry.events()[-1].body == '{"a":"ü","b":1}'
    assert [event.kind for event in registry.events(after=registry.head().length - 1)] == ["note"]


@both
@pytest.mark.parametrize("statement", ["UPDATE events SET body = '{}' WHERE sequence = 2", "DELETE FROM events WHERE sequence = 2"])
def test_database_refuses_to_change_events(registry: Registry, running: str, statement: str) -> None:
    check_refused(registry, statement)


@pytest.mark.parametrize("location", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT OR REPLACE INTO events SELECT 2, 'other', run, at, body, previous_hash, hash || 'x' FROM events WHERE sequence = 2",
        "INSERT INTO events SELECT 99, kind, run, at, body, previous_hash, hash || 'x' FROM events WHERE sequence = 2",
    ],
)
def test_sqlite_refuses_to_replace_events_and_to_leave_gaps(registry: Registry, running: str, statement: str) -> None:
    check_refused(registry, statement)


def check_refused(registry: Registry, statement: str) -> None:
    before = registry.events()
    with pytest.raises(DatabaseError, match="append-only"), engine_of(registry).begin() as connection:
        connection.execute(text(statement))
    assert registry.events() == before


@both
@pytest.mark.parametrize(
    ("column", "value"),
    [("body", "'{}'"), ("kind", "'other'"), ("run", "'other'"), ("at", "'2001-01-01 00:00:00.000000'"), ("hash", f"'{'0' * 64}'")],
)
def test_changed_event_is_named(registry: Registry, running: str, column: str, value: str) -> None:
    forced(registry, f"UPDATE events SET {column} = {value} WHERE sequence = 3")
    with pytest.raises(ChainBroken, match="event 3 "):
        registry.verify_chain()


@both
def test_removed_event_is_named(registry: Registry, running: str) -> None:
    forced(registry, "DELETE FROM events WHERE sequence = 4")
    with pytest.raises(ChainBroken, match="event 4 is missing"):
        registry.verify_chain()


@both
def test_renumbered_events_do_not_hide_a_removed_one(registry: Registry, running: str) -> None:
    renumber = "UPDATE events SET sequence = sequence - 1 WHERE sequence = {}"
    last = registry.head().length
    forced(registry, "DELETE FROM events WHERE sequence = 4", *(renumber.format(n) for n in range(5, last + 1)))
    with pytest.raises(ChainBroken, match="event 4 "):
        registry.verify_chain()


@both
def test_two_openings_extend_one_chain(location: str, clock: Callable[[], datetime], registry: Registry) -> None:
    second = Registry.open(location, clock)
    for number in range(5):
        registry.append_event("first", None, {"n": number})
        second.append_event("second", None, {"n": number})
    assert second.verify_chain() == registry.verify_chain()
    assert registry.head().length == 10
    second.close()


@both
def test_digests_lead_from_an_earlier_head_to_a_later_one(registry: Registry, running: str) -> None:
    earlier = registry.head()
    for number in range(3):
        registry.append_event("note", None, {"n": number})
    later = registry.head()
    registry.append_event("note", None, {"n": 3})
    check_extension(earlier, registry.digests(earlier.length, later.length), later)
    assert registry.digests(later.length, later.length) == b""


@both
def test_removed_end_of_the_chain_is_named(registry: Registry, running: str) -> None:
    last = registry.head().length
    forced(registry, f"DELETE FROM events WHERE sequence = {last}")
    for look in (registry.verify_chain, lambda: registry.append_event("note", None, {})):
        with pytest.raises(ChainBroken, match=f"ends at event {last - 1}, but not by its head row"):
            look()
