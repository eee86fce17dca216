"""A second set of survivors of one sum: the difference of the two totals is one institution's vector."""

from __future__ import annotations

import os

import numpy as np
import pytest

from protocols.errors import NoProof
from protocols.proofs import ContradictionProof
from tests.federation.attacks.adversary import Lanes
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.scene import OTHERS, VICTIM, Scene, proposed, stolen, total_of, without
from tests.federation.attacks.third_party import is_convinced
from tests.federation.attacks.weakened import weakened
from tests.federation.federation import NAMES
from tests.federation.scripted import Script


def within_one_slot(scene: Scene) -> Lanes:
    epoch = scene.set_up(NAMES)
    manifest = scene.manifest(epoch, 0, "evaluate", 0)
    everybody = proposed(scene, epoch, manifest)
    whole = total_of(scene, epoch, manifest, everybody)
    return np.asarray(whole - total_of(scene, epoch, manifest, without(everybody, VICTIM)))


def within_two_attempts(scene: Scene) -> Lanes:
    epoch = scene.set_up(NAMES)
    first, second = (scene.manifest(epoch, 0, "evaluate", slot) for slot in (0, 1))
    whole = total_of(scene, epoch, first, proposed(scene, epoch, first))
    return np.asarray(whole - total_of(scene, epoch, second, without(proposed(scene, epoch, second), VICTIM)))


def within_two_runs(scene: Scene) -> Lanes:
    epoch, again = scene.set_up(NAMES), Script(scene.federation, "r2")
    first = scene.manifest(epoch, 0, "evaluate", 0)
    whole = total_of(scene, epoch, first, proposed(scene, epoch, first))
    smaller = again.set_up(OTHERS)
    second = again.manifest(smaller, 0, "evaluate", 0)
    return np.asarray(whole - total_of(again, smaller, second, proposed(again, smaller, second)))


def test_second_set_same_slot(stage: Stage) -> None:
    """To learn the victim's vector: two sets of one manifest, the second one without it, so that both of its secrets are opened."""
    with weakened("client.sums.promise_set", "client.ledger.Ledger.reply", "client.ledger.Ledger.keep_reply"):
        twin = stage()
        assert stolen(twin, within_one_slot(twin))
        twin.breaks("I-1")
    scene = stage()
    with scene.refused("bea", "another request was already answered as r1/0/evaluate/1/query.survivors"):
        within_one_slot(scene)
    scene.finish_sum()
    with weakened("client.ledger.Ledger.reply", "client.ledger.Ledger.keep_reply"):  # the promise alone is enough
        scene = stage()
        with scene.refused("bea", "already signed another set for this slot"):
            within_one_slot(scene)
        evidence = scene.federation.nodes["bea"].ledger.evidence()[-1]
        proof, key = ContradictionProof(evidence.earlier, evidence.request).to_bytes(), scene.federation.operator_identity.public_key
        is_convinced(proof, lambda data: ContradictionProof.from_bytes(data).accuse(key), "the coordinator signed two different requests")


def test_second_set_same_state_new_attempt(stage: Stage) -> None:
    """To learn the victim's vector: the sum is asked again under a new manifest and slot, and its set leaves the victim out."""
    with weakened("client.sums.promise_set"):
        twin = stage()
        assert stolen(twin, within_two_attempts(twin))
        twin.breaks("I-3")
    scene = stage()
    with scene.refused("bea", "already signed another set for this sum"):
        within_two_attempts(scene)
    evidence = scene.federation.nodes["bea"].ledger.evidence()[-1]
    with pytest.raises(NoProof):  # an honest coordinator asks for both when the first set cannot be opened
        ContradictionProof(evidence.earlier, evidence.request).accuse(scene.federation.operator_identity.public_key)
    scene.finish_sum()


def test_second_set_same_state_new_run(stage: Stage) -> None:
    """To learn the victim's vector: another run of the same plan starts from the same state, in an epoch without the victim."""
    with weakened("client.promises.inputs_hash", by=lambda _: os.urandom(32)):
        twin = stage()
        assert stolen(twin, within_two_runs(twin))
        twin.breaks("I-3")
    scene = stage()
    with scene.refused("bea", "already signed another set for this state and kind of sum"):
        within_two_runs(scene)
    scene.finish_sum()
