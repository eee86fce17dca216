"""Every node follows one event chain: a manifest's head extends the last one that it was shown, event by event."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from client.heads import Heads
from coordinator.events import RoundFinished
from protocols.chain import GENESIS, MOST_DIGESTS, ChainHead, check_extension, event_digest, extend
from protocols.errors import Contradiction, NoProof
from protocols.proofs import ContradictionProof
from protocols.secagg import propose_survivors
from tests.federation.federation import NAMES, Federation, make_plan
from tests.federation.scripted import Answer, Epoch, Script

EVENTS = tuple(event_digest(b"event %d" % number) for number in range(8))


def head(events: Sequence[bytes]) -> ChainHead:
    return ChainHead(len(events), extend(GENESIS, b"".join(events)))


def heads(script: Script, name: str = "ada") -> Heads:
    return script.federation.nodes[name].ledger.heads


def show(script: Script, epoch: Epoch, slot: int, events: Sequence[bytes], digests: bytes) -> Answer:
    """Asks ada for an input to a manifest that names the chain of these events."""
    end = head(events)
    script.chain, script.digests = (end.length, end.hash), digests
    return script.send("ada", epoch, script.manifest(epoch, 0, "evaluate", slot))


def test_first_head_is_taken_on_trust_and_the_next_ones_must_extend_it(script: Script) -> None:
    epoch = script.set_up(NAMES)
    assert show(script, epoch, 0, EVENTS[:3], b"").refusal == ""
    assert show(script, epoch, 1, EVENTS[:3], b"".join(EVENTS[:3])).refusal == ""
    assert show(script, epoch, 2, EVENTS[:6], b"".join(EVENTS[1:6])).refusal == "", "what came before is passed over"
    assert [(one.head, one.digests) for one in heads(script).shown()] == [
        (head(EVENTS[:3]), b""),
        (head(EVENTS[:6]), b"".join(EVENTS[3:6])),
    ]


FORKED = (*EVENTS[:2], *EVENTS[4:8])
CHANGED = (*EVENTS[:2], EVENTS[7], *EVENTS[3:6])
ATTACKS = [
    pytest.param(FORKED, b"".join(FORKED[3:]), id="forked"),
    pytest.param(FORKED[:3], b"", id="forked at the same length"),
    pytest.param(EVENTS[:2], b"".join(EVENTS[:2]), id="truncated"),
    pytest.param(CHANGED, b"".join(CHANGED), id="event changed in the middle"),
    pytest.param(EVENTS[:6], b"".join(EVENTS[4:6]), id="events left out"),
    pytest.param(EVENTS[:6], b"", id="nothing shown"),
    pytest.param(EVENTS[:6], b"".join(EVENTS[3:6])[:-1], id="digest cut"),
]


@pytest.mark.parametrize(("events", "digests"), ATTACKS)
def test_chain_that_does_not_extend_the_last_head_is_refused_and_kept_as_evidence(
    script: Script, events: Sequence[bytes], digests: bytes
) -> None:
    epoch, ledger = script.set_up(NAMES), script.federation.nodes["ada"].ledger
    assert show(script, epoch, 0, EVENTS[:3], b"").refusal == ""
    assert "event chain" in show(script, epoch, 1, events, digests).refusal
    assert len(ledger.evidence()) == 1 and heads(script).last == head(EVENTS[:3])
    assert show(script, epoch, 2, EVENTS[:6], b"".join(EVENTS[3:6])).refusal == "", "the true chain goes on"


def test_too_many_digests_are_refused(script: Script) -> None:
    epoch = script.set_up(NAMES)
    assert "by more than" in show(script, epoch, 0, EVENTS[:3], bytes(32 * (1 + MOST_DIGESTS))).refusal


@pytest.mark.parametrize(("events", "digests"), ATTACKS[:3])
def test_fork_is_a_proof_for_others(script: Script, events: Sequence[bytes], digests: bytes) -> None:
    epoch, node = script.set_up(NAMES), script.federation.nodes["ada"]
    assert show(script, epoch, 0, EVENTS[:3], b"").refusal == ""
    assert "event chain" in show(script, epoch, 1, events, digests).refusal
    (evidence,) = node.ledger.evidence()
    proof = ContradictionProof(evidence.earlier, evidence.request)
    if len(events) < 3:  # which of two requests was the first, nobody else can tell
        with pytest.raises(NoProof):
            proof.accuse(node.coordinator_key)
    else:
        assert "events that are not one" in proof.accuse(node.coordinator_key)


@pytest.mark.parametrize(("events", "digests"), ATTACKS[:-1])
def test_node_that_did_not_check_would_answer(
    script: Script, monkeypatch: pytest.MonkeyPatch, events: Sequence[bytes], digests: bytes
) -> None:
    monkeypatch.setattr("client.heads.check_extension", lambda *_: None)
    epoch = script.set_up(NAMES)
    for slot, (shown, proof) in enumerate([(EVENTS[:3], b""), (events, digests)]):
        assert show(script, epoch, slot, shown, proof).refusal == ""


def test_head_is_on_disk_before_the_input_leaves_and_countersigned_with_the_set(script: Script) -> None:
    epoch = script.set_up(NAMES)
    end = head(EVENTS[:3])
    script.chain = (end.length, end.hash)
    manifest = script.manifest(epoch, 0, "evaluate", 0)
    proposal = propose_survivors(manifest, script.collect(epoch, manifest, NAMES).roots)
    assert [(one.head, one.countersigned) for one in heads(script).shown()] == [(end, False)]
    assert script.sign("ada", epoch, manifest, proposal).refusal == ""
    assert [(one.head, one.countersigned) for one in heads(script).shown()] == [(end, True)]


def test_head_that_was_never_shown_is_not_countersigned(script: Script) -> None:
    with pytest.raises(Contradiction, match="not the one that was shown"):
        heads(script).countersign(head(EVENTS[:3]))


def followed(federation: Federation, name: str) -> list[ChainHead]:
    """The heads of an institution, each checked against the one before and against the registry."""
    shown, events = federation.nodes[name].ledger.heads.shown(), federation.registry.events()
    for before, after in pairwise(shown):
        check_extension(before.head, after.digests, after.head)
    assert all(events[one.head.length - 1].hash == one.head.hash for one in shown)
    return [one.head for one in shown if one.countersigned]


def test_institutions_of_a_run_countersign_the_registrys_chain(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_plan(rounds=3))
    federation.fails = lambda name, _: name == "dov" and len(federation.of(RoundFinished)) == 1
    federation.run()
    heads = {name: followed(federation, name) for name in NAMES}
    assert len(heads["ada"]) == 4 and heads["ada"] == heads["bea"] == heads["cyd"]
    assert heads["dov"] == [heads["ada"][0], *heads["ada"][2:]], "who was absent goes on from its own last head"
    federation.close()


def test_next_run_of_the_registry_goes_on_from_every_institutions_last_head(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_plan(rounds=1))
    federation.run()
    lengths = {name: len(followed(federation, name)) for name in NAMES}
    federation.run()
    assert all(len(followed(federation, name)) > lengths[name] for name in NAMES)
    federation.close()
