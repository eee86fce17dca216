"""What a node refuses, and that it answers the same request with the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

from client.answering import answer
from client.node import Node
from client.work import Work
from coordinator.events import StageFinished
from protocols.epoch import EpochManifest
from protocols.errors import ConsortiumError
from protocols.identity import Envelope, open_envelope, open_envelope_of, seal_envelope
from protocols.pack import pack, unpack
from protocols.policy import Policy
from protocols.proofs import ContradictionProof
from protocols.secagg import SumManifest
from protocols.stages import ANSWERED_ONCE
from protocols.wire import Parcel, from_record
from tests.federation.federation import Crash, Federation, make_plan


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """A federation that died after the first masked inputs of the first update, before anyone signed."""
    made = Federation(tmp_path_factory.mktemp("disturbed"), make_plan(), keep_messages=True)

    def die(event: object) -> None:
        if isinstance(event, StageFinished) and (event.stage, event.round) == ("train.sum", 1):
            raise Crash

    with pytest.raises(Crash):
        made.run(die)
    made.close()
    return made


@pytest.fixture
def federation(disturbed: Federation, tmp_path: Path) -> Iterator[Federation]:
    """The same federation, opened again by new processes."""
    shutil.copytree(disturbed.directory, tmp_path / "copy")
    made = Federation(tmp_path / "copy", make_plan(), messages=disturbed.messages)
    yield made
    made.close()


def request_to(federation: Federation, name: str, message_type: str) -> Parcel:
    """The last request of one type that reached an institution."""
    reached: list[Message] = [m for n, m in federation.messages if n == name and m.metadata.message_type == message_type]
    return from_record(reached[-1].content)


def refusal(federation: Federation, reply: Parcel) -> str:
    return unpack(open_envelope(reply.envelope, federation.roster).payload).get("refused", b"").decode()


def altered(federation: Federation, parcel: Parcel, **changes: Any) -> Parcel:
    """The same request with other envelope fields, signed by the coordinator anew."""
    envelope = open_envelope_of(parcel.envelope, federation.operator_identity.public_key)
    return Parcel(seal_envelope(federation.operator_identity, replace(envelope, **changes)), parcel.arrays)


def with_manifest(federation: Federation, parcel: Parcel, attempt: int, **changes: Any) -> Parcel:
    """A new attempt at the sum of `parcel`, with other manifest fields."""
    parts = unpack(open_envelope_of(parcel.envelope, federation.operator_identity.public_key).payload)
    manifest = replace(SumManifest.from_bytes(parts["manifest"]), attempt=attempt, **changes).signed_by(federation.operator_identity.sign)
    payload = pack(parts | {"manifest": manifest.to_bytes()})
    return altered(federation, parcel, attempt=attempt, manifest_hash=manifest.hash, payload=payload)


@pytest.mark.parametrize("message_type", sorted(ANSWERED_ONCE - {"query.unmask"}))
def test_repeated_request_gets_identical_bytes(federation: Federation, message_type: str) -> None:
    node, parcel = federation.nodes["ada"], request_to(federation, "ada", message_type)
    first, second = answer(node, message_type, parcel), answer(node, message_type, parcel)
    assert first.envelope == second.envelope and refusal(federation, first) == ""
    assert {k: v.tobytes() for k, v in first.arrays.items()} == {k: v.tobytes() for k, v in second.arrays.items()}


def test_shares_that_were_opened_are_gone_with_their_sum(federation: Federation) -> None:
    node, parcel = federation.nodes["ada"], request_to(federation, "ada", "query.unmask")
    assert "the next sum of run" in refusal(federation, answer(node, "query.unmask", parcel))


def test_repeated_sum_does_not_train_again(federation: Federation) -> None:
    answer(federation.nodes["ada"], "train.sum", request_to(federation, "ada", "train.sum"))
    assert federation.works["ada"].trainings == []


def test_different_request_under_the_same_key_is_refused_and_both_are_kept(federation: Federation) -> None:
    node, parcel = federation.nodes["ada"], request_to(federation, "ada", "train.sum")
    other = altered(federation, parcel, payload=pack({"manifest": b"another", "epoch": b""}))
    assert "another request was already answered" in refusal(federation, answer(node, "train.sum", other))
    assert [(kept.earlier, kept.request) for kept in node.ledger.evidence()] == [(parcel.envelope, other.envelope)]
    proof = ContradictionProof(parcel.envelope, other.envelope)
    assert "two different requests" in proof.accuse(federation.operator_identity.public_key)
    assert refusal(federation, answer(node, "train.sum", parcel)) == ""


def test_request_of_another_signer_is_not_answered(federation: Federation) -> None:
    parcel = request_to(federation, "ada", "train.sum")
    envelope = open_envelope_of(parcel.envelope, federation.operator_identity.public_key)
    forged = Parcel(seal_envelope(federation.nodes["bea"].identity, envelope))
    with pytest.raises(ConsortiumError):
        answer(federation.nodes["ada"], "train.sum", forged)


def test_request_for_another_institution_is_not_answered(federation: Federation) -> None:
    with pytest.raises(ConsortiumError, match="came to bea"):
        answer(federation.nodes["bea"], "train.sum", request_to(federation, "ada", "train.sum"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"state_hash": b"\1" * 32, "slot": 9}, "computes another state hash"),
        ({"plan_hash": b"\1" * 32, "slot": 9}, "another plan"),
        ({"layout_hash": b"\1" * 32, "slot": 9}, "lanes are not those"),
        ({"previous_transcript": b"\1" * 32, "slot": 9}, "does not follow the last transcript"),
        ({"epoch_hash": b"\1" * 32, "slot": 9}, "another epoch"),
        ({}, "was used by another manifest"),
        ({"round": 2, "slot": 9}, "another sum than its envelope"),
    ],
    ids=lambda value: next(iter(value), "slot") if isinstance(value, dict) else "",
)
def test_tampered_manifest_is_refused(federation: Federation, changes: dict[str, Any], sentence: str) -> None:
    parcel = with_manifest(federation, request_to(federation, "ada", "train.sum"), 7, **changes)
    assert sentence in refusal(federation, answer(federation.nodes["ada"], "train.sum", parcel))
    assert federation.works["ada"].trainings == []


def test_new_attempt_sends_the_stored_vector(federation: Federation) -> None:
    node, parcel = federation.nodes["ada"], request_to(federation, "ada", "train.sum")
    again = answer(node, "train.sum", with_manifest(federation, parcel, 7, slot=9))
    assert refusal(federation, again) == "" and again.arrays["chunks"].size and federation.works["ada"].trainings == []


def test_epoch_below_the_policy_is_refused(federation: Federation) -> None:
    node, parcel = _strict(federation.nodes["ada"]), request_to(federation, "ada", "query.epoch_keys")
    assert "colluding" in refusal(federation, answer(node, "query.epoch_keys", _next_epoch(federation, parcel)))


def test_plan_below_the_policy_is_refused(federation: Federation) -> None:
    node, parcel = _strict(federation.nodes["ada"]), request_to(federation, "ada", "query.hello")
    assert "policy" in refusal(federation, answer(node, "query.hello", parcel))


def test_unexpected_error_is_answered_without_its_text(federation: Federation) -> None:
    def broken(_: object) -> Work:
        raise ValueError("record 17: Mrs Secret")

    node = replace(federation.nodes["ada"], open_work=broken)
    text = refusal(federation, answer(node, "query.hello", request_to(federation, "ada", "query.hello")))
    assert "ValueError" in text and "Secret" not in text


def _strict(node: Node) -> Node:
    return replace(node, policy=Policy(colluding=2))


def _next_epoch(federation: Federation, parcel: Parcel) -> Parcel:
    envelope: Envelope = open_envelope_of(parcel.envelope, federation.operator_identity.public_key)
    manifest = replace(EpochManifest.from_bytes(unpack(envelope.payload)["manifest"]), epoch=99)
    return altered(federation, parcel, attempt=99, manifest_hash=manifest.hash, payload=pack({"manifest": manifest.to_bytes()}))
