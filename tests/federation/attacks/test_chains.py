"""Event chains that were cut or have two ends."""

from __future__ import annotations

from protocols.proofs import ContradictionProof
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.scene import VICTIM, Scene
from tests.federation.attacks.weakened import weakened
from tests.federation.federation import NAMES

SHOWN = (5, b"\5" * 32)  # length and head of the chain that the victim saw first


def shown_after(scene: Scene, chain: tuple[int, bytes]) -> None:
    """The victim masks for a manifest with one chain, and then for one with another."""
    epoch = scene.set_up(NAMES)
    for slot, scene.chain in enumerate((SHOWN, chain)):
        scene.collect(epoch, scene.manifest(epoch, 0, "evaluate", slot), [VICTIM])


def heads(scene: Scene) -> list[tuple[int, bytes]]:
    """The chains under which the victim masked its vector."""
    return [(one.manifest.chain_length, one.manifest.chain_head) for one in scene.adversary.sums()]


def test_forked_event_chain(stage: Stage) -> None:
    """To tell two histories: an event that some saw stands in no chain that others see."""
    fork = (5, b"\6" * 32)
    with weakened("client.ledger.Ledger.follow_chain"):
        twin = stage()
        shown_after(twin, fork)
        assert heads(twin) == [SHOWN, fork]
    scene = stage()
    with scene.refused(VICTIM, "an event chain of 5 events does not extend the one of 5"):
        shown_after(scene, fork)
    requests = [one.request.envelope for one in scene.adversary.seen if one.message_type == "evaluate.sum"]
    proof = ContradictionProof(*requests)
    assert "two event chains of 5 events" in proof.accuse(scene.federation.operator_identity.public_key)
    scene.chain = SHOWN
    scene.finish_sum()


def test_truncated_event_chain(stage: Stage) -> None:
    """To take back what was announced: later manifests name a chain that ends before it."""
    cut = (4, b"\4" * 32)
    with weakened("client.ledger.Ledger.follow_chain"):
        twin = stage()
        shown_after(twin, cut)
        assert heads(twin) == [SHOWN, cut]
    scene = stage()
    with scene.refused(VICTIM, "an event chain of 4 events does not extend the one of 5"):
        shown_after(scene, cut)
    scene.chain = SHOWN
    scene.finish_sum()
