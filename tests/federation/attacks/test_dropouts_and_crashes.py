"""Every invariant holds over whole runs, whoever drops out where and wherever the coordinator's process dies."""

from __future__ import annotations

import pytest

from coordinator.events import StageFinished
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.invariants import check_invariants
from tests.federation.federation import Crash, make_plan

STAGES = (
    "query.hello", "query.epoch_keys", "query.epoch_shares", "query.epoch_confirm", "evaluate.sum", "train.sum", "query.survivors",
    "query.unmask", "query.transcript", "query.total",
)  # fmt: skip


@pytest.mark.parametrize("message_type", STAGES)
def test_invariants_hold_whoever_drops_out_where(stage: Stage, message_type: str) -> None:
    scene = stage(greet=False)
    scene.federation.fails = lambda name, kind: (name, kind) == ("bea", message_type)
    scene.federation.run()
    check_invariants(scene.adversary)


@pytest.mark.parametrize("message_type", ["train.sum", "query.survivors", "query.unmask", "query.transcript"])
def test_invariants_hold_wherever_the_coordinator_dies(stage: Stage, message_type: str) -> None:
    scene = stage(greet=False)

    def die(event: object) -> None:
        if isinstance(event, StageFinished) and (event.round, event.kind, event.stage) == (1, "update", message_type):
            raise Crash

    with pytest.raises(Crash):
        scene.federation.run(die)
    check_invariants(scene.adversary)
    scene.federation.run()
    check_invariants(scene.adversary)


def test_invariants_hold_where_experts_are_trained(stage: Stage) -> None:
    scene = stage(plan=make_plan(rounds=1), greet=False)
    scene.federation.run()
    check_invariants(scene.adversary)
