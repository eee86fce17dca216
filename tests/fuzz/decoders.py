"""Every decoder that reads bytes of another party or of a disk: what it may raise, and valid bytes for it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Message as FlowerMessage
from flwr.app import Metadata

from client.errors import SettingsError
from client.institution import Membership, read_membership, write_membership
from coordinator.exchange import UNREADABLE
from coordinator.publishing import read_challenge
from protocols.codec import Message
from protocols.errors import ConsortiumError, MalformedMessage, PlanError, ProtocolError, RosterError, SignatureError, StateError
from protocols.identity import Envelope, open_envelope, seal_envelope
from protocols.lanes import CHUNK_LANES, LaneFormat
from protocols.pack import PackError, pack, unpack
from protocols.plan import parse_plan, plan_from_canonical
from protocols.proofs import ContradictionProof, MemberProof, read_member_proof, write_member_proof
from protocols.roster import Roster, RosterEntry
from protocols.roster_offer import OfferedInstitution
from protocols.secagg import SumManifest
from protocols.state import PreRound, State, load_state, state_arrays, state_from_arrays, state_header, state_to_bytes
from protocols.wire import Parcel, WireError, deserialize, from_record, serialize, to_record
from tests.fuzz import evidence, uploads
from tests.fuzz.memory import folder_in_memory
from tests.fuzz.samples import conversation, message_kinds, messages, sealed_envelopes

THREE_CHUNKS = LaneFormat(2 * CHUNK_LANES + 1, 0, 24)
ASKED = SumManifest("run", 1, "update", 1, 0, b"", b"", b"", b"", THREE_CHUNKS, b"", b"", 0)


@dataclass(frozen=True)
class Decoder:
    """One way in. `entry` names the wire entry point with which it shares code, and under which it is fuzzed."""

    name: str
    entry: str
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    refusals: tuple[type[ConsortiumError], ...]
    samples: Callable[[], list[bytes]]
    exact: bool = True  # whatever decodes has one form in bytes

    def check(self, data: bytes) -> bool:
        """Whether `data` decodes. Raises AssertionError for a second form of one content, and whatever is no declared refusal."""
        try:
            value = self.decode(data)
        except self.refusals:
            return False
        again = self.encode(value)
        if self.exact and again != data:
            raise AssertionError(f"{self.name} decodes bytes that it would not write")
        if self.encode(self.decode(again)) != again:
            raise AssertionError(f"{self.name} reads something else than it wrote")
        return True


@cache
def decoders() -> dict[str, Decoder]:
    """All of them by name; one for each kind of message, found by itself."""
    others = [
        Decoder("pack", "pack", unpack, pack, (PackError,), _packs),
        Decoder("envelope", "envelope", _open, _seal, (MalformedMessage, RosterError, SignatureError), sealed_envelopes),
        Decoder("flower", "flower", _parcel_of, _flower_bytes, (WireError,), _flower_messages, exact=False),
        Decoder("state_arrays", "state", _state_of, _state_parts, (PackError, StateError), _states),
        Decoder("state_file", "state", partial(_of_file, load_state), state_to_bytes, (StateError,), _state_files, exact=False),
        Decoder("plan", "plan", plan_from_canonical, lambda plan: plan.canonical(), (PlanError,), _plans),
        Decoder("roster_file", "roster_file", _membership_of, _membership_bytes, (SettingsError, RosterError), _memberships, exact=False),
        Decoder("member_proof", "proof", _member_proof_of, write_member_proof, (MalformedMessage, PackError, RosterError), _member_proofs),
        Decoder("challenge", "upload", partial(read_challenge, ASKED), _challenge_bytes, (ProtocolError,), _challenges),
        *_of_uploads(),
    ]
    return {decoder.name: decoder for decoder in [*others, *map(_of_message, message_kinds())]}


def entries() -> dict[str, list[Decoder]]:
    """Decoders by wire entry point."""
    grouped: dict[str, list[Decoder]] = {}
    for decoder in decoders().values():
        grouped.setdefault(decoder.entry, []).append(decoder)
    return grouped


def _of_message(kind: type[Message]) -> Decoder:
    entry = next((name for name in ("epoch", "proof", "service") if kind.__module__.startswith(f"protocols.{name}")), "sum")
    refusals = (MalformedMessage, RosterError) if kind in (Roster, RosterEntry, OfferedInstitution) else (MalformedMessage,)
    decode = partial(_accused, kind.from_bytes) if entry == "proof" else kind.from_bytes
    return Decoder(kind.__name__, entry, decode, Message.to_bytes, refusals, lambda: list(messages().get(kind, ())))


def _of_uploads() -> list[Decoder]:
    kinds = {
        uploads.WrittenChunk: uploads.written_chunks,
        uploads.WrittenTotal: uploads.written_totals,
        uploads.ShownLeaf: uploads.shown_leaves,
        uploads.SentUpload: uploads.sent_uploads,
    }
    return [Decoder(k.__name__, "upload", partial(_used, k), Message.to_bytes, (ProtocolError,), made) for k, made in kinds.items()]


def _used(kind: Any, data: bytes) -> Any:
    message = kind.from_bytes(data)
    message.use()
    return message


def _accused(read: Callable[[bytes], Any], data: bytes) -> Any:
    """A proof, after it was looked at as whoever receives it does: it says whom it proves what of, or that it proves nothing."""
    proof, cohort = read(data), conversation().cohort
    known = (cohort.coordinator.public_key,) if isinstance(proof, ContradictionProof) else (cohort.roster, cohort.coordinator.public_key)
    with suppress(ProtocolError):
        proof.accuse(*known)
    return proof


def _member_proof_of(data: bytes) -> MemberProof:
    proof: MemberProof = _accused(read_member_proof, data)
    return proof


def _member_proofs() -> list[bytes]:
    return [write_member_proof(proof) for proof in evidence.proofs_against_members(conversation())]


def _challenge_bytes(chunks: list[int]) -> bytes:
    return b"".join(chunk.to_bytes(4, "little") for chunk in chunks)


def _challenges() -> list[bytes]:
    return [b"", _challenge_bytes([0, 2])]


def _packs() -> list[bytes]:
    return [b"", pack({"": b""}), pack({"a": b"1", "b": pack({"c": b"", "é": b"\xff"})})]


def _open(data: bytes) -> Envelope:
    return open_envelope(data, conversation().cohort.roster)


def _seal(envelope: Envelope) -> bytes:
    return seal_envelope(conversation().cohort.identities[envelope.sender], envelope)


def _parcel_of(data: bytes) -> Parcel:
    """As an exchange reads it: what Flower itself stumbles over is the sender's fault as well."""
    try:
        message = deserialize(data)
    except UNREADABLE:
        raise WireError("Flower cannot read the message") from None
    if message.has_error() or not message.has_content():
        raise WireError("the message has no content")
    return from_record(message.content)


def _flower_bytes(parcel: Parcel) -> bytes:
    metadata = Metadata(1, "message", 1, 2, "", "run/1", 0.0, 1.0, "train.sum")
    return serialize(FlowerMessage(content=to_record(parcel), metadata=metadata))


def _flower_messages() -> list[bytes]:
    arrays = {"masked": np.arange(3, dtype=np.uint32), "values": np.zeros((2, 1), np.float32)}
    return [_flower_bytes(Parcel(envelope, arrays)) for envelope in (*sealed_envelopes(), b"")]


def _state() -> State:
    lora = np.arange(6, dtype=np.float32).reshape(2, 3)
    before = PreRound({1: (0,)}, ("ada", "bio", "cor"), 3)
    return State("ab" * 32, 3, {"a.lora_A": lora, "b.lora_B": lora + 1}, {1: (0, 2)}, {"a.lora_A": lora}, pre_round=before)


def _state_of(data: bytes) -> State:
    """A state out of a request: its header, and arrays that here have one dimension each."""
    parts = unpack(data)
    header = parts.pop("header", b"")
    if any(len(content) % 4 for content in parts.values()):
        raise StateError("an array does not hold whole numbers")
    return state_from_arrays(header, {name: np.frombuffer(content, "<f4") for name, content in parts.items()})


def _state_parts(state: State) -> bytes:
    return pack({"header": state_header(state)} | {name: values.tobytes() for name, values in state_arrays(state).items()})


def _states() -> list[bytes]:
    return [_state_parts(State("ab" * 32, 0, {})), _state_parts(_state())]


def _state_files() -> list[bytes]:
    return [state_to_bytes(_state())]


def _of_file(read: Callable[[Path], Any], data: bytes) -> Any:
    with tempfile.NamedTemporaryFile(dir=folder_in_memory()) as file:
        file.write(data)
        file.flush()
        return read(Path(file.name))


def _plans() -> list[bytes]:
    least: dict[str, Any] = {"name": "triage", "base": "small", "records": {"prompt": "{text}", "target": "{label}"}}
    more = least | {
        "base": {"name": "small", "sha256": "ab" * 32},
        "trainable": {"rank_pattern": {"lm_head": 4}, "experts": "all"},
        "simulation": {"source": "records.jsonl", "partition": {"dirichlet": "label", "alpha": 0.5}},
        "evaluation": {"choices": ["yes", "nö"]},
    }
    return [parse_plan(content, "a sample").canonical() for content in (least, more)]


def _membership_of(data: bytes) -> Membership:
    with tempfile.TemporaryDirectory(dir=folder_in_memory()) as folder:
        (Path(folder) / "roster.toml").write_bytes(data)
        return read_membership(Path(folder))


def _membership_bytes(membership: Membership) -> bytes:
    with tempfile.TemporaryDirectory(dir=folder_in_memory()) as folder:
        write_membership(Path(folder), membership)
        return (Path(folder) / "roster.toml").read_bytes()


def _memberships() -> list[bytes]:
    return [_membership_bytes(Membership("ada", conversation().cohort.roster, bytes(range(32))))]
