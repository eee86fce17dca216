"""Writers at the same time never fork the chain nor lose an event, as threads and as processes, on both databases."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from sqlalchemy import text

from coordinator.errors import RegistryError
from coordinator.registry import Registry
from coordinator.registry.records import Participant
from tests.coordinator.postgresql import both, engine_of

PROCESS = """
import sys
from datetime import UTC, datetime
from coordinator.registry import Registry

registry = Registry.open(sys.argv[1], lambda: datetime.now(UTC))
for number in range(int(sys.argv[3])):
    registry.append_event(sys.argv[2], None, {"n": number})
registry.close()
"""


def kinds(registry: Registry) -> Counter[str]:
    return Counter(event.kind for event in registry.events())


@both
def test_threads_extend_one_chain(location: str, registry: Registry, clock: Callable[[], datetime]) -> None:
    others = [Registry.open(location, clock) for _ in range(3)]  # connections of their own, as processes have
    writers = [registry, registry, *others]

    def write(number: int) -> None:
        for step in range(6):
            writers[number].append_event(f"writer {number}", None, {"n": step})

    with ThreadPoolExecutor(len(writers)) as pool:
        list(pool.map(write, range(len(writers))))
    assert registry.verify_chain().length == 30
    assert kinds(registry) == {f"writer {number}": 6 for number in range(5)}
    for other in others:
        other.close()


@both
def test_the_same_institution_is_added_once(location: str, registry: Registry, clock: Callable[[], datetime]) -> None:
    other = Registry.open(location, clock)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: one.record_participants([Participant("amber", "0" * 64)]), [registry, other] * 2))
    assert kinds(registry) == {"participant-joined": 1}
    other.close()


@both
@pytest.mark.slow
def test_processes_extend_one_chain(location: str, registry: Registry) -> None:
    command = (sys.executable, "-c", PROCESS, location)
    children = [subprocess.Popen([*command, name, "25"], stderr=subprocess.PIPE) for name in ("first", "second")]
    for number in range(25):
        registry.append_event("ours", None, {"n": number})
    for child in children:
        assert child.communicate(timeout=120)[1] == b""
        assert child.returncode == 0
    assert registry.verify_chain().length == 75
    assert kinds(registry) == {"ours": 25, "first": 25, "second": 25}


def test_processes_open_a_new_database_at_once(empty_location: str, clock: Callable[[], datetime]) -> None:
    with ThreadPoolExecutor(3) as pool:
        opened = list(pool.map(lambda _: Registry.open(empty_location, clock), range(3)))
    assert {one.head().length for one in opened} == {0}
    for one in opened:
        one.close()


@both
@pytest.mark.slow
def test_writer_that_hangs_is_waited_for_a_bounded_time(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.registry.retrying.MOST_CONFLICTS", 1)
    with engine_of(registry).begin() as hanging:
        hanging.execute(text("SET LOCAL lock_timeout = 0") if hanging.dialect.name == "postgresql" else text("SELECT 1"))
        hanging.execute(text("UPDATE chain_head SET length = length"))
        with pytest.raises(RegistryError, match="cannot be written"):
            registry.append_event("note", None, {})
    assert registry.append_event("note", None, {}) == registry.verify_chain()
