"""One owner at a time; whoever was deposed finds it out by its number, inside the transaction that it would have written."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from coordinator.errors import LeaseHeld, LeaseLost
from coordinator.registry import Registry
from coordinator.registry.states import WantedState
from tests.coordinator.postgresql import both

pytestmark = both


def test_lease_keeps_a_second_job_out(registry: Registry) -> None:
    registry.take_lease("run", "first", 1000)
    registry.take_lease("run", "first", 1000)
    with pytest.raises(LeaseHeld, match="driven by first; stop .* wait until"):
        registry.take_lease("run", "second", 1000)
    registry.release_lease("run", "second")
    with pytest.raises(LeaseHeld):
        registry.take_lease("run", "second", 1000)
    registry.release_lease("run", "first")
    registry.take_lease("run", "second", 1000)


def test_lease_passes_on_when_it_expired_or_its_owner_is_gone(registry: Registry) -> None:
    registry.take_lease("run", "first", 0.5)  # the clock of these tests moves a second at each look
    registry.take_lease("run", "second", 1000)
    registry.take_lease("run", "third", 1000, gone=lambda owner: owner == "second")
    with pytest.raises(LeaseHeld):
        registry.take_lease("run", "first", 1000, gone=lambda owner: owner == "second")


def test_number_grows_at_each_change_of_owner_and_at_no_renewal(registry: Registry) -> None:
    assert [registry.take_lease("run", "first", 0.5) for _ in range(3)] == [1, 1, 1]
    assert registry.take_lease("run", "second", 1000) == 2
    registry.release_lease("run", "second")
    assert registry.take_lease("run", "second", 1000) == 3
    assert registry.take_lease("another", "first", 1000) == 1


def test_renewal_moves_the_end(registry: Registry) -> None:
    registry.take_lease("run", "first", 2)
    for _ in range(4):
        registry.take_lease("run", "first", 2)
    with pytest.raises(LeaseHeld):
        registry.take_lease("run", "second", 2)


def test_of_two_coordinators_on_one_registry_the_second_refuses(location: str, registry: Registry) -> None:
    other = Registry.open(location, registry._clock)
    registry.take_lease("supervisor", "process 1 on east.example", 60)
    with pytest.raises(LeaseHeld, match="driven by process 1 on east.example"):
        other.take_lease("supervisor", "process 1 on west.example", 60)
    other.close()


def test_deposed_owner_writes_nothing(registry: Registry, running: str) -> None:
    old = registry.fenced("run", registry.take_lease("run", "first", 0.5))
    old.set_wanted(running, WantedState.PAUSED)  # expired, but nobody took over
    new = registry.fenced("run", registry.take_lease("run", "second", 1000))
    before = registry.head()
    for write in (lambda: old.set_wanted(running, WantedState.RUNNING), lambda: old.append_event("note", None, {})):
        with pytest.raises(LeaseLost, match="taken over from this process"):
            write()
    assert (registry.head(), registry.run(running).wanted) == (before, WantedState.PAUSED)
    new.patient(1).set_wanted(running, WantedState.RUNNING)
    assert old.runs() == registry.runs()


def test_fence_is_checked_and_ends_with_the_lease(registry: Registry) -> None:
    fence = registry.take_lease("run", "first", 1000)
    registry.check_fence("run", fence)
    for name, number in (("run", fence + 1), ("run", fence - 1), ("another", fence)):
        with pytest.raises(LeaseLost):
            registry.check_fence(name, number)
    registry.release_lease("run", "first")
    with pytest.raises(LeaseLost):
        registry.check_fence("run", fence)


def test_writer_that_waited_while_it_was_deposed_is_refused(location: str, registry: Registry, clock: Callable[[], datetime]) -> None:
    old = registry.fenced("run", registry.take_lease("run", "first", 1))
    later = Registry.open(location, lambda: clock() + timedelta(hours=1))
    assert later.take_lease("run", "second", 1) == 2
    with pytest.raises(LeaseLost):
        old.append_event("note", None, {})
    later.close()
