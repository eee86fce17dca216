"""What a submitted plan is compared with: runs that began from the same state."""

from __future__ import annotations

import pytest

from coordinator.registry import Registry
from coordinator.registry.records import Participant
from coordinator.registry.states import RunState
from coordinator.submission import begun_alike, new_run
from protocols.plan import parse_plan
from tests.coordinator.conftest import NAMES, SKETCH


@pytest.mark.parametrize(
    ("change", "alike"),
    [({"name": "second", "rounds": 5}, True), ({"seed": 7}, False), ({"trainable": {"lora_rank": 4}}, False)],
    ids=["the same state", "another seed", "other adapters"],
)
def test_runs_that_began_from_the_same_state_are_named(registry: Registry, change: dict[str, object], alike: bool) -> None:
    registry.record_participants([Participant(name, name.encode().hex().ljust(64, "0")) for name in NAMES])
    plan = parse_plan({**SKETCH, **change}, "the sketch")
    run = registry.create_run(new_run(parse_plan(SKETCH, "the sketch")), b"\x01\x02\x03\x04").run
    assert begun_alike(registry, plan) == (), "it has not begun"
    for state in (RunState.ACCEPTING, RunState.RUNNING):
        registry.set_state(run, state)
    assert begun_alike(registry, plan) == ((run,) if alike else ())
