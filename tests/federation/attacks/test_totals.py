"""Totals that are not the sum, or that no institution wants to apply."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from protocols.policy import Policy
from protocols.proofs import WrongTotalProof
from protocols.secagg import Accumulator, CheckedUpload, OpenedSeeds, read_total, remove_masks
from protocols.state import state_hash
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.invariants import check_invariants
from tests.federation.attacks.scene import COLLUDER, OTHERS, VICTIM, Scene
from tests.federation.attacks.third_party import is_convinced
from tests.federation.attacks.weakened import weakened
from tests.federation.federation import NAMES
from tests.federation.scripted import Outcome, Refused, Script, taken

SMALL_CHUNKS = ("protocols.lanes.CHUNK_LANES", "protocols.secagg.inputs.CHUNK_LANES")


def one_chunk_altered(scene: Scene) -> tuple[Outcome, Outcome]:
    """What the sum of round 1 brought, and what the victim is told instead."""
    epoch = scene.set_up(NAMES)
    scene.follow(scene.sum(epoch, 0, "evaluate", 0), NAMES)
    honest = scene.sum(epoch, 1, "update", 1)
    manifest, certificate = honest.transcript.manifest, honest.transcript.certificate
    assert manifest.lanes.chunks > 3
    total = read_total(manifest.lanes, honest.total)
    total[manifest.lanes.span(2)] += np.uint32(1 << 20)
    altered = scene.outcome(epoch, manifest, certificate, total, honest.opened)
    taken(VICTIM, scene.publish(VICTIM, altered))
    return honest, altered


def test_published_total_altered_in_one_chunk(stage: Stage) -> None:
    """To move the model of one institution, or all, to where their data does not."""
    with weakened(*SMALL_CHUNKS, by=16), weakened("client.states.check_spots"):
        twin = stage()
        honest, altered = one_chunk_altered(twin)
        assert twin.place(VICTIM)[0] == state_hash(altered.after) != state_hash(honest.after)
        twin.breaks("I-10")
    with weakened(*SMALL_CHUNKS, by=16):
        scene = stage()
        with scene.refused(VICTIM, "chunk 2 of the total is not the sum of the survivors' inputs; the coordinator altered it"):
            one_chunk_altered(scene)
        ((_, proof),) = scene.federation.nodes[VICTIM].ledger.proofs()
        public = (scene.federation.roster, scene.federation.operator_identity.public_key)
        said = "run r1, update sum of round 1: chunk 2 of the total is not the sum"
        is_convinced(proof, lambda data: WrongTotalProof.from_bytes(data).accuse(*public), said)
        with pytest.raises(Refused, match="ada takes no part in run r1 any more"):
            scene.set_up(NAMES)
        again = Script(scene.federation, "r2")  # run r1 is over for the victim, and nothing else is
        again.follow(again.sum(again.set_up(NAMES), 0, "evaluate", 0), NAMES)
        check_invariants(scene.adversary)


def made_up_seed(scene: Scene) -> Outcome:
    """A sum that the colluder drops out of: its pair seed with one survivor is made up, and the total is what then comes out."""
    epoch = scene.set_up(NAMES)
    honest = scene.sum(epoch, 0, "evaluate", 0, NAMES[:3])
    manifest, certificate = honest.transcript.manifest, honest.transcript.certificate
    of_the_colluder = {**honest.opened.pair_seeds[COLLUDER], "bea": bytes(32)}
    opened = OpenedSeeds(honest.opened.self_seeds, {COLLUDER: of_the_colluder})
    uploads = Accumulator(manifest)
    for name, root in certificate.proposal.roots.items():
        uploads.add(CheckedUpload(name, root, scene.uploads[root]))
    outcome = scene.outcome(epoch, manifest, certificate, remove_masks(uploads, opened), opened)
    assert not np.array_equal(outcome.lanes, honest.lanes)
    taken(VICTIM, scene.publish(VICTIM, outcome))
    return outcome


def test_total_shifted_by_a_made_up_pair_seed(stage: Stage) -> None:
    """To put noise of the coordinator's choice on the total where every chunk adds up: the seed of a pair without the victim is made up."""
    with weakened("client.audits.check_opened_pairs"):
        twin = stage()
        outcome = made_up_seed(twin)
        assert twin.place(VICTIM) == (state_hash(outcome.after), 1)
        twin.breaks("I-10")
    scene = stage()
    with scene.refused(VICTIM, "the pair seed opened of bea and dov is not the one that bea committed to; the sum is wrong"):
        made_up_seed(scene)
    assert scene.place(VICTIM)[1] == 0
    with weakened("tests.federation.scripted.rows_of", by=lambda *_: {}):
        scene = stage()
        with scene.refused(VICTIM, "dov is missing, and what "):
            made_up_seed(scene)


def far_step(scene: Scene) -> Outcome:
    """An update that all others made up, as far as lanes go."""
    scene.follow(scene.forge_outcome(scene.forge_epoch(OTHERS), 0, "evaluate", 0), [VICTIM])
    size = scene.terms.lanes(scene.state, scene.planned(1, "update")).size
    outcome = scene.forge_outcome(scene.forge_epoch(OTHERS), 1, "update", 0, np.full(size, 1 << 24, np.uint32))
    scene.federation.nodes[VICTIM] = replace(scene.federation.nodes[VICTIM], policy=Policy(max_update_norm=1e-6))
    taken(VICTIM, scene.publish(VICTIM, outcome))
    return outcome


def test_crafted_update_over_norm(stage: Stage) -> None:
    """To put the model where the next update tells more, or does harm: three colluding institutions certify a step without measure."""
    with weakened("client.states.check_update"):
        twin = stage(colluders=OTHERS)
        outcome = far_step(twin)
        assert twin.place(VICTIM) == (outcome.transcript.after, 2)
    scene = stage(colluders=OTHERS)
    with scene.refused(VICTIM, "policy allows 1e-06"):
        far_step(scene)
    assert scene.place(VICTIM)[1] == 1
