"""Manifests that treat one institution otherwise than the others, or name a state that is none."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest

import client.sums
from client.node import Node, Request
from protocols.errors import SignatureError
from protocols.keys import Purpose, derive_key
from protocols.proofs import ContradictionProof
from protocols.secagg import SumManifest, SurvivorProposal, UploadRoot, check_root
from protocols.state import State
from tests.federation.attacks.adversary import Lanes
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.scene import OTHERS, VICTIM, Scene, proposed, stolen, total_of
from tests.federation.attacks.weakened import weakened
from tests.federation.federation import NAMES
from tests.federation.scripted import Script


def victim_of_its_own(scene: Scene) -> tuple[Lanes, Lanes]:
    """Total over all, although the victim was given a manifest of its own for the slot; and the plain sum."""
    epoch = scene.set_up(NAMES)
    own, common = scene.manifest(epoch, 0, "evaluate", 0), scene.manifest(epoch, 0, "evaluate", 0)
    roots = scene.collect(epoch, own, [VICTIM]).roots | scene.collect(epoch, common, OTHERS).roots
    certificate = scene.certify(epoch, common, SurvivorProposal(common.hash, roots), OTHERS)
    inputs = [scene.adversary.inputs[name, (own if name == VICTIM else common).hash] for name in NAMES]
    return scene.total(epoch, common, certificate, OTHERS)[0], np.sum(inputs, 0, dtype=np.uint32)


def without_manifest(secret: bytes, purpose: Purpose, *_: bytes) -> bytes:
    return derive_key(secret, purpose)


def test_two_manifests_one_victim(stage: Stage) -> None:
    """To ask one institution for something else, or show it another history, while its vector still counts in everyone's sum."""
    with weakened("protocols.secagg.inputs.derive_key", by=without_manifest):
        total, plain = victim_of_its_own(stage())
        assert np.array_equal(total, plain)
    scene = stage()
    total, plain = victim_of_its_own(scene)
    assert np.not_equal(total, plain).all(), "masks for two manifests cancelled"
    uploads = [one for one in scene.adversary.sums() if one.institution in (VICTIM, "bea")]
    with pytest.raises(SignatureError, match="ada"):  # an honest coordinator does not even count it
        check_root(uploads[1].manifest, scene.federation.roster, UploadRoot.from_bytes(uploads[0].said["root"]))
    proof = ContradictionProof(*(one.request.envelope for one in uploads))
    assert "two manifests for slot 0" in proof.accuse(scene.federation.operator_identity.public_key)
    scene.finish_sum()


@dataclass(frozen=True)
class NamingManifest(SumManifest):
    """A manifest with one field more."""

    only: str = ""


NamingManifest.__name__ = SumManifest.__name__  # as it would be if the field were the product's


def alone(scene: Scene) -> Lanes:
    """The total over all, which were told that only the victim's vector is wanted."""
    epoch = scene.set_up(NAMES)
    honest = scene.manifest(epoch, 0, "evaluate", 0)
    manifest = NamingManifest(**{field.name: getattr(honest, field.name) for field in fields(honest)}, only=VICTIM)
    manifest = manifest.signed_by(scene.federation.operator_identity.sign)
    return total_of(scene, epoch, manifest, proposed(scene, epoch, manifest))


def test_manifest_names_an_institution(stage: Stage) -> None:
    """To have terms for one institution: a field says whose vector is wanted, and the others' are zero."""
    vector_of = client.sums._vector

    def obeying(node: Node, request: Request, asked: Any) -> Lanes:
        vector = vector_of(node, request, asked)
        return vector if asked.manifest.only == node.name else np.zeros_like(vector)

    with (
        weakened("client.sums.SumManifest", "tests.federation.attacks.adversary.SumManifest", by=NamingManifest),
        weakened("client.sums._vector", by=obeying),
    ):
        twin = stage()
        assert stolen(twin, alone(twin))
    scene = stage()
    with scene.refused(VICTIM, "SumManifest has unknown or missing fields (only)"):
        alone(scene)
    scene.finish_sum()


def same_state_under_another_name(scene: Scene) -> Lanes:
    """The difference of a sum over all and one over all but the victim, which is said to start from another state."""
    epoch, again = scene.set_up(NAMES), Script(scene.federation, "r2")
    first = scene.manifest(epoch, 0, "evaluate", 0)
    whole = total_of(scene, epoch, first, proposed(scene, epoch, first))
    smaller = again.set_up(OTHERS)
    second = again.manifest(smaller, 0, "evaluate", 0, state_hash=b"\1" * 32)
    return np.asarray(whole - total_of(again, smaller, second, proposed(again, smaller, second)))


def copied(manifest: SumManifest, _: State) -> str:
    return f"set/{manifest.state_hash.hex()}/{manifest.sum}"


def test_state_hash_copied_not_computed(stage: Stage) -> None:
    """To have a second set for one state: its manifest names a hash of nothing, under which no set was ever signed."""
    with weakened("client.sums.check_manifest"), weakened("client.promises._inputs_claim", by=copied):
        twin = stage()
        assert stolen(twin, same_state_under_another_name(twin))
    scene = stage()
    with scene.refused("bea", "this institution computes another state hash than the manifest's"):
        same_state_under_another_name(scene)
    with weakened("client.sums.check_manifest"):  # the promise is about what was computed, too
        scene = stage()
        with scene.refused("bea", "already signed another set for this state and kind of sum"):
            same_state_under_another_name(scene)
    scene.finish_sum()
