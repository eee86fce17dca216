"""Noise that comes again, and updates that leave without being charged, whoever drops out or dies where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from coordinator.events import StageFinished
from tests.federation.attacks.adversary import Lanes
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.invariants import check_invariants
from tests.federation.attacks.scene import Scene, opened_by
from tests.federation.attacks.weakened import weakened
from tests.federation.federation import Crash
from tests.federation.private_plans import DISTRIBUTED, private_plan


def secrets_of_a_repeated_training(scene: Scene, randomness: Callable[[int], bytes]) -> list[bytes]:
    """Of the victim's trainings of round 1: the first one's process died between training and keeping its vector."""
    scene.finish_sum()
    epoch = scene.set_up(scene.federation.names)
    manifest = scene.manifest(epoch, 1, "update", 0)
    scene.federation.nodes["ada"] = replace(scene.federation.nodes["ada"], randomness=randomness)
    with weakened("client.sums.encode", by=die), pytest.raises(Crash):
        scene.send("ada", epoch, manifest)
    scene.restart("ada")
    (charge,) = scene.federation.nodes["ada"].ledger.privacy.charges()
    assert charge.state == "reserved"
    assert not scene.send("ada", epoch, manifest).refusal
    return scene.federation.works["ada"].secrets


def die(*_: object) -> None:
    raise Crash


def test_resumed_step_reuses_noise_on_other_batch(stage: Stage) -> None:
    """To subtract two noised sums of other records with one noise: a training that died is drawn anew, secret and all."""
    cast = {"plan": private_plan(DISTRIBUTED, rounds=1)}
    first, second = secrets_of_a_repeated_training(stage(**cast), lambda size: b"run r1, round 1".ljust(size)[:size])
    assert first == second, "what follows from run and round, as in the twin, comes again"
    scene = stage(**cast)
    first, second = secrets_of_a_repeated_training(scene, scene.federation.randomness("ada"))
    assert first != second
    (charge,) = scene.federation.nodes["ada"].ledger.privacy.charges()
    assert charge.state == "spent", "once: nothing of the first left"
    check_invariants(scene.adversary)


@pytest.mark.parametrize("message_type", ["train.sum", "query.survivors", "query.unmask", "query.total"])
def test_invariants_hold_where_one_drops_out(stage: Stage, message_type: str) -> None:
    scene = stage(plan=private_plan(DISTRIBUTED), greet=False)
    scene.federation.fails = lambda name, kind: (name, kind) == ("bea", message_type)
    scene.federation.run()
    check_invariants(scene.adversary)


@pytest.mark.parametrize("message_type", ["train.sum", "query.survivors", "query.unmask"])
def test_invariants_hold_wherever_the_coordinator_dies(stage: Stage, message_type: str) -> None:
    scene = stage(plan=private_plan(DISTRIBUTED), greet=False)

    def die(event: object) -> None:
        if isinstance(event, StageFinished) and (event.round, event.kind, event.stage) == (1, "update", message_type):
            raise Crash

    with pytest.raises(Crash):
        scene.federation.run(die)
    check_invariants(scene.adversary)
    scene.federation.run()
    check_invariants(scene.adversary)


def test_what_leaves_without_being_spent_breaks_an_invariant(stage: Stage) -> None:
    with weakened("client.privacy_ledger.PrivacyLedger.spend"):
        twin = stage(plan=private_plan(DISTRIBUTED, rounds=1), greet=False)
        twin.federation.run()
        twin.breaks("I-7")


EIGHT = ("ada", "bea", "cyd", "dov", "eve", "flo", "gus", "hal")
SMALL = ("cyd", "dov", "eve", "flo", "gus", "hal")  # a later epoch without the victim and one more
FIVE_AT_LEAST = private_plan(DISTRIBUTED, rounds=1, secure_aggregation={"min_institutions": 5})  # each adds a third of the noise


def difference_of_two_sets(scene: Scene) -> tuple[Lanes, Lanes]:
    """Of the totals of one update in two epochs without a common honest signer, and what two institutions' vectors are together."""
    scene.finish_sum()
    large = opened_by(scene, scene.set_up(EIGHT), 0, ("ada", "bea", "cyd", "dov"), "hal")
    small = opened_by(scene, scene.set_up(SMALL), 0, ("eve", "flo", "gus"), "hal")
    left = {name: plain for (name, _), plain in scene.adversary.inputs.items() if name in ("ada", "bea") and plain.size == large.size}
    return np.asarray(large - small), np.asarray(left["ada"] + left["bea"])


def test_two_sets_whose_difference_has_less_noise(stage: Stage) -> None:
    """To see two vectors' sum with two thirds of the noise: a later epoch of fewer opens the update over another set."""
    cast = {"names": EIGHT, "colluders": ("hal",), "plan": FIVE_AT_LEAST}
    with weakened("protocols.privacy.distributed.least_threshold", by=lambda *_: 0):
        difference, own = difference_of_two_sets(stage(**cast))
        assert np.array_equal(difference, own) and own.any()
    scene = stage(**cast)
    with scene.refused("cyd", "an epoch in which 4 of 8 institutions open a sum could open two sums of one update"):
        difference_of_two_sets(scene)
