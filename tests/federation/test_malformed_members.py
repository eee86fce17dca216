"""One member answers with junk: it alone is left out, in one sentence, and the run goes on with the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from coordinator.errors import JobError
from coordinator.events import Event, StageFinished, SumFinished
from coordinator.exchange import MOST_ENVELOPE_BYTES
from protocols.codec import Message as Ours
from protocols.epoch import Confirmation, EpochManifest, KeysMessage, SharesMessage, SharesState
from protocols.epoch.checks import certified
from protocols.identity import Envelope, open_envelope, seal_envelope
from protocols.pack import pack, unpack
from protocols.secagg import UnmaskAnswer
from protocols.wire import Parcel, from_record, to_record
from tests.federation.federation import Crash, Federation, make_plan

NAMES = ("ada", "bea", "cyd", "dov", "eve")
HONEST = NAMES[:4]
Parts = dict[str, bytes]
Alter = Callable[[Parcel, Envelope, Parts], tuple[Envelope, Mapping[str, Any]]]


def make_federation(directory: Path, names: tuple[str, ...] = NAMES, retries: int = 1) -> Federation:
    participation = {"quorum": 3, "deadline": "5s", "retries": retries}
    trainable = {"lora_rank": 2, "targets": ["lm_head"], "experts": "none"}
    return Federation(directory, make_plan(rounds=1, trainable=trainable, participation=participation), names)


def let_lie(federation: Federation, stage: str, alter: Callable[[Message], Message], name: str = "eve") -> None:
    """From now on `alter` changes what a member answers at one stage."""
    honest = federation.apps[name]

    def app(message: Message, context: Context) -> Message:
        reply = honest(message, context)
        return alter(reply) if message.metadata.message_type == stage else reply

    federation.apps[name] = app


def resigned(federation: Federation, alter: Alter, name: str = "eve") -> Callable[[Message], Message]:
    """The answer with other content, under the member's own signature."""

    def change(reply: Message) -> Message:
        parcel = from_record(reply.content)
        envelope = open_envelope(parcel.envelope, federation.roster)
        parts = unpack(envelope.payload)
        changed, arrays = alter(parcel, envelope, parts)
        sealed = seal_envelope(federation.nodes[name].identity, changed)
        reply.content = to_record(Parcel(sealed, arrays))
        return reply

    return change


def with_part(name: str, value: Callable[[bytes], bytes]) -> Alter:
    def alter(parcel: Parcel, envelope: Envelope, parts: Parts) -> tuple[Envelope, Mapping[str, Any]]:
        return replace(envelope, payload=pack(parts | {name: value(parts[name])})), parcel.arrays

    return alter


def without_part(name: str) -> Alter:
    def alter(parcel: Parcel, envelope: Envelope, parts: Parts) -> tuple[Envelope, Mapping[str, Any]]:
        return replace(envelope, payload=pack({key: value for key, value in parts.items() if key != name})), parcel.arrays

    return alter


def with_arrays(change: Callable[[Any], Mapping[str, Any]]) -> Alter:
    def alter(parcel: Parcel, envelope: Envelope, parts: Parts) -> tuple[Envelope, Mapping[str, Any]]:
        return envelope, change(parcel.arrays["chunks"])

    return alter


def another_incarnation(parcel: Parcel, envelope: Envelope, parts: Parts) -> tuple[Envelope, Mapping[str, Any]]:
    return replace(envelope, incarnation=envelope.incarnation + 1), parcel.arrays


def junk(_: bytes) -> bytes:
    return b"junk"


def first_sum(federation: Federation) -> tuple[str, ...]:
    """Whose inputs are in the first sum; the run is not followed further."""

    def stop(event: Event) -> None:
        if isinstance(event, SumFinished):
            raise Crash

    with pytest.raises(Crash):
        federation.run(stop)
    federation.close()
    return federation.of(SumFinished)[0].institutions  # type: ignore[no-any-return]


RESIGNED: dict[str, tuple[str, Alter]] = {
    "keys junk": ("query.epoch_keys", with_part("message", junk)),
    "keys missing": ("query.epoch_keys", without_part("message")),
    "shares junk": ("query.epoch_shares", with_part("message", junk)),
    "shares empty": ("query.epoch_shares", with_part("message", lambda _: b"")),
    "confirmation junk": ("query.epoch_confirm", with_part("message", junk)),
    "root missing": ("evaluate.sum", without_part("root")),
    "root junk": ("evaluate.sum", with_part("root", junk)),
    "no vector": ("evaluate.sum", with_arrays(lambda _: {})),
    "vector too long": ("evaluate.sum", with_arrays(lambda v: {"chunks": np.zeros(2**20, np.uint8)})),
    "vector of reals": ("evaluate.sum", with_arrays(lambda v: {"chunks": v.astype(np.float32)})),
    "another incarnation": ("evaluate.sum", another_incarnation),
}


@pytest.mark.parametrize("case", RESIGNED)
def test_member_that_signs_junk_is_left_out(tmp_path: Path, case: str) -> None:
    federation, (stage, alter) = make_federation(tmp_path), RESIGNED[case]
    let_lie(federation, stage, resigned(federation, alter))
    assert first_sum(federation) == HONEST
    reasons = [dict(event.missing)["eve"] for event in federation.of(StageFinished) if "eve" in dict(event.missing)]
    assert not any("the node failed" in reason for reason in reasons), "the lie itself broke off"


def test_run_ends_well_though_a_member_sends_junk_throughout(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    let_lie(federation, "query.epoch_confirm", resigned(federation, with_part("message", junk)))
    result = federation.run()
    assert [row.missing for row in federation.registry.rounds(result.run)] == [("eve",), ("eve",)]
    federation.close()


def _too_large(reply: Message) -> Message:
    reply.content = to_record(Parcel(bytes(MOST_ENVELOPE_BYTES + 1)))
    return reply


def _deeply_nested(reply: Message) -> Message:
    data = b""
    for _ in range(3000):
        data = pack({"": data})
    reply.content = to_record(Parcel(data))
    return reply


def _no_records(reply: Message) -> Message:
    reply.content = RecordDict()
    return reply


def _unknown_type(reply: Message) -> Message:
    array = Array("complex512", (1,), "raw", b"0000")
    reply.content = RecordDict({"envelope": ConfigRecord({"bytes": b""}), "arrays": ArrayRecord(array_dict={"chunks": array})})
    return reply


def _shape_beyond_measure(reply: Message) -> Message:
    array = Array("uint32", (2**70,), "raw", b"0000")
    reply.content = RecordDict({"envelope": ConfigRecord({"bytes": b""}), "arrays": ArrayRecord(array_dict={"chunks": array})})
    return reply


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (_too_large, f"an envelope of {MOST_ENVELOPE_BYTES + 1} bytes"),
        (_deeply_nested, "unknown or missing fields"),
        (_no_records, "not in the expected form"),
        (_unknown_type, "not in the expected form"),
        (_shape_beyond_measure, "not in the expected form"),
    ],
)
def test_member_whose_message_has_no_form_is_left_out(tmp_path: Path, alter: Callable[[Message], Message], reason: str) -> None:
    federation = make_federation(tmp_path)
    let_lie(federation, "evaluate.sum", alter)
    assert first_sum(federation) == HONEST
    (report,) = [event for event in federation.of(StageFinished) if event.stage == "evaluate.sum"]
    assert [name for name, _ in report.missing] == ["eve"] and reason in report.missing[0][1]


def test_member_whose_greeting_has_no_form_is_left_out(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    let_lie(federation, "query.hello", _shape_beyond_measure)
    assert first_sum(federation) == HONEST


@pytest.mark.parametrize(
    ("stage", "alter"),
    [
        ("query.survivors", with_part("signature", junk)),
        ("query.survivors", without_part("signature")),
        ("query.unmask", with_part("answer", junk)),
        ("query.unmask", with_part("answer", lambda data: _altered_answer(data).to_bytes())),
    ],
    ids=["signature junk", "no signature", "answer junk", "wrong share"],
)
def test_junk_after_the_upload_costs_the_liar_its_place_but_not_the_sum(tmp_path: Path, stage: str, alter: Alter) -> None:
    federation = make_federation(tmp_path)
    let_lie(federation, stage, resigned(federation, alter))
    assert first_sum(federation) == NAMES
    (report,) = [event for event in federation.of(StageFinished) if event.stage == stage]
    assert report.answered == HONEST and [name for name, _ in report.missing] == ["eve"] and report.attempt == 1


@pytest.mark.parametrize("challenge", [b"\xff" * 4, b"\0" * 5], ids=["no such chunk", "half a number"])
def test_challenge_that_names_no_chunk_costs_its_member_the_epoch(tmp_path: Path, challenge: bytes) -> None:
    federation = make_federation(tmp_path)
    let_lie(federation, "query.transcript", resigned(federation, with_part("challenge", lambda _: challenge)))
    federation.run()
    first, *_ = [event for event in federation.of(StageFinished) if event.stage == "query.transcript"]
    assert first.answered == HONEST and [name for name, _ in first.missing] == ["eve"]
    federation.close()


def _altered_answer(data: bytes) -> Ours:
    answer = UnmaskAnswer.from_bytes(data)
    return replace(answer, self_seeds=dict(answer.self_seeds) | {"ada": bytes(33)})


def test_words_of_a_refusal_are_cut_to_one_printable_line(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, NAMES[:3], retries=0)
    text = b"\x1b[2Jline\nline\xff" + b"x" * 10**6

    def refuse(parcel: Parcel, envelope: Envelope, parts: Parts) -> tuple[Envelope, Mapping[str, Any]]:
        return replace(envelope, payload=pack({"refused": text})), {}

    let_lie(federation, "query.epoch_keys", resigned(federation, refuse, "cyd"), "cyd")
    with pytest.raises(JobError) as raised:
        federation.run()
    assert "cyd:  [2Jline line" in str(raised.value) and len(str(raised.value)) < 1000 and str(raised.value).isprintable()
    federation.close()


def dishonest_keys(federation: Federation) -> Alter:
    """A correctly signed message with an X25519 point of small order."""

    def value(data: bytes) -> bytes:
        message = replace(KeysMessage.from_bytes(data), x25519=bytes(32))
        return message.signed_by(federation.nodes["eve"].identity.sign).to_bytes()

    return with_part("message", value)


def dishonest_shares(federation: Federation, victims: tuple[str, ...], length: int | None = None) -> Alter:
    """A correctly signed message with sealed shares that do not open, or ciphertexts of a wrong length; its sender goes on with it."""
    node = federation.nodes["eve"]

    def alter(parcel: Parcel, envelope: Envelope, parts: Parts) -> tuple[Envelope, Mapping[str, Any]]:
        message = SharesMessage.from_bytes(parts["message"])
        change = {"sealed": b"no shares"} if length is None else {"ciphertext": bytes(length)}
        members = zip(NAMES, message.parts, strict=True)
        parts_sent = tuple(replace(part, **change) if name in victims else part for name, part in members)
        hashes = b"".join(part.hash for part in parts_sent)
        message = SharesMessage(replace(message.header, part_hashes=hashes).signed_by(node.identity.sign), parts_sent)
        stored = node.ledger.epoch(envelope.run, envelope.attempt)
        assert stored is not None
        believed = replace(SharesState.from_bytes(stored.state), own_hash=message.header.hash)
        node.ledger.keep_epoch(envelope.run, envelope.attempt, replace(stored, state=believed.to_bytes()))
        return with_part("message", lambda _: message.to_bytes())(parcel, envelope, parts)

    return alter


def test_keys_that_nobody_can_use_cost_their_owner_alone(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    let_lie(federation, "query.epoch_keys", resigned(federation, dishonest_keys(federation)))
    assert first_sum(federation) == HONEST


@pytest.mark.parametrize("length", [None, 7])
def test_shares_that_open_for_nobody_cost_their_dealer_alone(tmp_path: Path, length: int | None) -> None:
    federation = make_federation(tmp_path)
    let_lie(federation, "query.epoch_shares", resigned(federation, dishonest_shares(federation, HONEST, length)))
    assert first_sum(federation) == HONEST


def test_single_accuser_and_accused_are_both_left_out(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    let_lie(federation, "query.epoch_shares", resigned(federation, dishonest_shares(federation, ("ada",))))
    assert first_sum(federation) == ("bea", "cyd", "dov")


def test_false_accusations_cost_one_institution_at_most(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)

    def accuse(parcel: Parcel, envelope: Envelope, parts: Parts) -> tuple[Envelope, Mapping[str, Any]]:
        return replace(envelope, payload=pack({"refused": b"ada is to blame", "accused": b"ada"})), {}

    let_lie(federation, "query.epoch_confirm", resigned(federation, accuse))
    assert first_sum(federation) == ("bea", "cyd", "dov")


def changed_confirmation(federation: Federation, change: Callable[[Confirmation], Confirmation]) -> Alter:
    """Another confirmation of eve, correctly signed."""

    def alter(parcel: Parcel, envelope: Envelope, parts: Parts) -> tuple[Envelope, Mapping[str, Any]]:
        message, stored = Confirmation.from_bytes(parts["message"]), federation.nodes["eve"].ledger.epoch(envelope.run, envelope.attempt)
        assert stored is not None
        changed = change(message)
        signed = certified(EpochManifest.from_bytes(stored.manifest), changed.setup_hash, changed.published)
        sent = replace(changed, signature=federation.nodes["eve"].identity.sign(signed)).to_bytes()
        return with_part("message", lambda _: sent)(parcel, envelope, parts)

    return alter


def test_recovery_envelopes_that_do_not_open_cost_an_attempt_and_not_the_run(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    federation.fails = lambda name, message_type: name == "eve" and message_type == "evaluate.sum"
    alter = changed_confirmation(federation, lambda honest: replace(honest, envelopes=tuple(bytes(len(e)) for e in honest.envelopes)))
    let_lie(federation, "query.epoch_confirm", resigned(federation, alter))
    assert first_sum(federation) == HONEST
    assert [event.attempt for event in federation.of(StageFinished) if event.stage == "query.unmask"] == [1, 2]


@pytest.mark.parametrize(("victims", "left"), [(1, ("bea", "cyd", "dov")), (2, HONEST), (4, HONEST)])
def test_pair_seeds_in_dispute_cost_both_members_and_many_disputes_their_common_one(
    tmp_path: Path, victims: int, left: tuple[str, ...]
) -> None:
    federation = make_federation(tmp_path)

    def change(honest: Confirmation) -> Confirmation:
        return replace(honest, rows=tuple(bytes(32 * victims) + row[32 * victims :] for row in honest.rows))

    let_lie(federation, "query.epoch_confirm", resigned(federation, changed_confirmation(federation, change)))
    assert first_sum(federation) == left


def test_a_member_whose_ledger_changes_during_the_setup_is_left_out(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)

    def another(data: bytes) -> bytes:
        message = SharesMessage.from_bytes(data)
        return replace(message, header=replace(message.header, incarnation=2).signed_by(federation.nodes["eve"].identity.sign)).to_bytes()

    let_lie(federation, "query.epoch_shares", resigned(federation, with_part("message", another)))
    assert first_sum(federation) == HONEST


def test_proposed_set_is_not_replaced_by_a_smaller_one(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, NAMES[:4], retries=5)

    def stages() -> list[tuple[int, str]]:
        return [(event.attempt, event.stage) for event in federation.of(StageFinished) if (event.round, event.kind) == (1, "update")]

    def fails(name: str, message_type: str) -> bool:
        return message_type == "query.survivors" and (stages() or [(0, "")])[-1] == (1, "train.sum") and name in ("cyd", "dov")

    federation.fails = fails
    result = federation.run()
    assert stages()[:4] == [(1, "train.sum"), (1, "query.survivors"), (1, "query.survivors"), (1, "query.unmask")]
    assert {attempt for attempt, stage in stages() if stage != "query.transcript"} == {1}, "another set was proposed"
    assert federation.registry.rounds(result.run)[1].missing == ()
    federation.close()


@pytest.mark.parametrize(
    ("challenge", "reason"),
    [
        (bytes(8), "more chunks than an institution looks at"),
        (b"\1\0\0\0", "chunks that a total of 1 does not have"),
        (b"\0", "chunks that a total of 1 does not have"),
    ],
    ids=["twice the same", "beyond the total", "no number"],
)
def test_member_that_asks_to_see_what_is_not_there_is_left_out(tmp_path: Path, challenge: bytes, reason: str) -> None:
    federation = make_federation(tmp_path)
    let_lie(federation, "query.transcript", resigned(federation, with_part("challenge", lambda _: challenge)))
    result = federation.run()
    (first, *_) = [event for event in federation.of(StageFinished) if event.stage == "query.transcript"]
    assert [name for name, _ in first.missing] == ["eve"] and reason in first.missing[0][1]
    assert federation.registry.run(result.run).state.value == "finished"
    federation.close()
