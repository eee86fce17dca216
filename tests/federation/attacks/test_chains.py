"""Event chains that were cut or have two ends."""

from __future__ import annotations

from protocols.chain import GENESIS, event_digest, extend
from protocols.proofs import ContradictionProof
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.scene import VICTIM, Scene
from tests.federation.attacks.weakened import weakened
from tests.federation.federation import NAMES

EVENTS = [event_digest(b"event %d" % number) for number in range(5)]
FORK = [*EVENTS[:3], *(event_digest(b"another event %d" % number) for number in range(4))]


def show(scene: Scene, events: list[bytes]) -> tuple[int, bytes]:
    """From now on the coordinator's chain has these events."""
    scene.chain, scene.digests = (len(events), extend(GENESIS, b"".join(events))), b"".join(events)
    return scene.chain


def shown_after(scene: Scene, events: list[bytes]) -> None:
    """The victim masks for a manifest with one chain, and then for one with another."""
    epoch = scene.set_up(NAMES)
    for slot, shown in enumerate((EVENTS, events)):
        show(scene, shown)
        scene.collect(epoch, scene.manifest(epoch, 0, "evaluate", slot), [VICTIM])


def heads(scene: Scene) -> list[tuple[int, bytes]]:
    """The chains under which the victim masked its vector."""
    return [(one.manifest.chain_length, one.manifest.chain_head) for one in scene.adversary.sums()]


def test_forked_event_chain(stage: Stage) -> None:
    """To tell two histories: an event that some saw stands in no chain that others see."""
    with weakened("client.heads.check_extension"):
        twin = stage()
        shown_after(twin, FORK)
        assert heads(twin) == [show(twin, EVENTS), show(twin, FORK)]
    scene = stage()
    with scene.refused(VICTIM, "an event chain of 7 events is not shown to extend the one of 5"):
        shown_after(scene, FORK)
    evidence = scene.federation.nodes[VICTIM].ledger.evidence()[-1]
    proof = ContradictionProof(evidence.earlier, evidence.request)
    assert "events that are not one" in proof.accuse(scene.federation.operator_identity.public_key)
    show(scene, EVENTS)
    scene.finish_sum()


def test_truncated_event_chain(stage: Stage) -> None:
    """To take back what was announced: later manifests name a chain that ends before it."""
    with weakened("client.heads.check_extension"):
        twin = stage()
        shown_after(twin, EVENTS[:4])
        assert heads(twin) == [show(twin, EVENTS), show(twin, EVENTS[:4])]
    scene = stage()
    with scene.refused(VICTIM, "an event chain of 4 events is not shown to extend the one of 5"):
        shown_after(scene, EVENTS[:4])
    show(scene, EVENTS)
    scene.finish_sum()
