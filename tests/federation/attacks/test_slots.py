"""One slot, one vector, one opening: what a slot that is used twice, or for a dropout, gives away."""

from __future__ import annotations

import numpy as np
import pytest

from client.work import MetricSums
from protocols.keys import Purpose, derive_key
from protocols.proofs import ContradictionProof
from tests.federation.attacks.adversary import Lanes
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.recovery import sent, unmasked
from tests.federation.attacks.scene import OTHERS, VICTIM, Scene, proposed, stolen
from tests.federation.attacks.weakened import weakened
from tests.federation.federation import NAMES


def asked_twice(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Lanes:
    """The victim dies after its upload left; meanwhile a record came in, and the same request comes again."""
    epoch = scene.set_up(NAMES)
    manifest = scene.manifest(epoch, 0, "evaluate", 0)
    scene.collect(epoch, manifest, [VICTIM])
    first = sent(scene.adversary, VICTIM, manifest)
    scene.restart(VICTIM)
    monkeypatch.setattr(scene.federation.works[VICTIM], "evaluate", lambda *_: MetricSums(1914.0, 1998))
    scene.collect(epoch, manifest, [VICTIM])
    return np.asarray(sent(scene.adversary, VICTIM, manifest, -1) - first)


def test_slot_reused_after_crash(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """To learn what changed in the victim's records: two vectors under one mask, whose difference is that of the plain ones."""
    unwritten = ("client.vectors.Vectors.keep", "client.ledger.Ledger.keep_reply", "client.sums.promise_root")
    with weakened(*unwritten):
        assert asked_twice(stage(), monkeypatch).tolist() == [1, 1]
    scene = stage()
    assert asked_twice(scene, monkeypatch).tolist() == [0, 0]
    scene.finish_sum()


def test_slot_is_not_taken_by_another_manifest(stage: Stage) -> None:
    """To have two sets opened in one slot: after a crash the slot is offered again with another manifest."""
    scene = stage()
    epoch = scene.set_up(NAMES)
    manifest = scene.manifest(epoch, 0, "evaluate", 0)
    scene.collect(epoch, manifest, [VICTIM])
    scene.restart(VICTIM)
    with scene.refused(VICTIM, "slot 0 of this epoch was used by another manifest"):
        scene.collect(epoch, scene.manifest(epoch, 0, "evaluate", 0), [VICTIM])
    evidence = scene.federation.nodes[VICTIM].ledger.evidence()[-1]
    proof = ContradictionProof(evidence.earlier, evidence.request)
    assert "two manifests for slot 0" in proof.accuse(scene.federation.operator_identity.public_key)
    scene.finish_sum()


def dropped_later(scene: Scene) -> Lanes:
    """The victim is in the first sum, whose self seed is opened, and drops out of the second, where its pair seeds are."""
    epoch = scene.set_up(NAMES)
    outcome = scene.sum(epoch, 0, "evaluate", 0)
    scene.follow(outcome, NAMES)
    later = scene.sum(epoch, 1, "update", 1, OTHERS)
    manifest = outcome.transcript.manifest
    pairs = later.opened.pair_seeds[VICTIM]
    return unmasked(sent(scene.adversary, VICTIM, manifest), VICTIM, manifest, outcome.opened.self_seeds[VICTIM], pairs)


def without_slot(secret: bytes, purpose: Purpose, *context: bytes) -> bytes:
    return derive_key(secret, purpose, *(context[:1] if purpose is Purpose.PAIR_SEED else context))


def test_dropout_key_reused_across_rounds(stage: Stage) -> None:
    """To unmask an earlier upload: what is opened of a dropout in one sum must not be what masked its vector in another."""
    with weakened("protocols.epoch.channel.derive_key", by=without_slot):
        twin = stage()
        assert stolen(twin, dropped_later(twin))
    scene = stage()
    assert not stolen(scene, dropped_later(scene))
    scene.finish_sum(OTHERS)


def late_upload(scene: Scene) -> Lanes:
    """The victim's upload is held back until its recovery secret is opened."""
    epoch = scene.set_up(NAMES)
    manifest = scene.manifest(epoch, 0, "evaluate", 0)
    certificate = scene.certify(epoch, manifest, proposed(scene, epoch, manifest, OTHERS))
    _, opened = scene.total(epoch, manifest, certificate)
    scene.collect(epoch, manifest, [VICTIM])
    return unmasked(sent(scene.adversary, VICTIM, manifest), VICTIM, manifest, bytes(32), opened.pair_seeds[VICTIM])


def test_late_upload_after_drop(stage: Stage) -> None:
    """To read an upload that comes after its sender was declared a dropout and its pair seeds were opened: the self mask is left."""
    known = ("protocols.secagg.inputs.self_key", "protocols.secagg.accumulator.self_key", "tests.federation.attacks.recovery.self_key")
    with weakened(*known, by=lambda seed, manifest: bytes(32)):
        twin = stage()
        assert stolen(twin, late_upload(twin))
    scene = stage()
    assert not stolen(scene, late_upload(scene))
    scene.finish_sum(OTHERS)
