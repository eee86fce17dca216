"""What is shown after a sum: its transcript, a chunk of its total, and proofs of every kind, of which none proves anything."""

from __future__ import annotations

from collections.abc import Mapping

from protocols.codec import Message
from protocols.identity import Envelope, seal_envelope
from protocols.merkle import MerkleTree, leaf_hash
from protocols.pack import pack
from protocols.proofs import ContradictionProof, MemberProof, WrongEnvelopeProof, WrongSecretProof, WrongShareProof, WrongTotalProof
from protocols.secagg import OpenedSeeds, ShownChunk, ShownTotal, open_seeds, root_of
from protocols.transcript import Transcript
from tests.protocols.secagg.cohort import Sum


def opened(done: Sum) -> OpenedSeeds:
    """What its certified set opened."""
    return open_seeds(done.manifest, done.cohort.epoch, done.setup, done.certificate(), done.answers())


def transcript(done: Sum) -> Transcript:
    """The sum's transcript, which leads to a state of zeros."""
    root = root_of(done.manifest.lanes, done.total(done.answers()))
    return Transcript(done.manifest, done.cohort.epoch, done.setup, done.certificate(), opened(done).hash, root, bytes(32))


def shown_total(done: Sum) -> ShownTotal:
    """The first chunk of every upload and of the total."""
    lanes = done.manifest.lanes
    uploads = {name: _first(list(lanes.written(upload.masked))) for name, upload in done.uploads.items()}
    return ShownTotal(0, uploads, _first(list(lanes.written(done.total(done.answers())))))


def proofs_against_coordinators(done: Sum) -> list[Message]:
    """Of a total that is right, and of a request that contradicts nothing but itself."""
    committed = requested(done, "update/query.transcript", {"transcript": transcript(done).to_bytes()})
    return [WrongTotalProof(committed, opened(done), shown_total(done)), ContradictionProof(committed, committed)]


def proofs_against_members(done: Sum) -> list[MemberProof]:
    """Of an answer, shares and an envelope that are what was committed to."""
    epoch, answers, slot = done.cohort.epoch, done.answers(), done.manifest.slot
    message, answer = done.setup.shares["dom"], answers["ada"]
    said = Envelope("ada", "coordinator", "run", 1, 1, "update/query.unmask", done.manifest.hash, 0, pack({"answer": answer.to_bytes()}))
    sealed = seal_envelope(done.cohort.identities["ada"], said)
    parts = {name: message.parts[epoch.number(name) - 1] for name in answers}
    shares = {name: answer.recovery_secrets["dom"] for name, answer in answers.items()}
    recovery = done.cohort.dealt["dom"][0].recovery_secrets[slot]
    return [
        WrongShareProof("ada", sealed, done.manifest, epoch, message.header, parts["ada"], *confirmed(done, "ada")),
        WrongSecretProof(epoch, message.header, slot, 1, parts, shares),
        WrongEnvelopeProof(epoch, message.header, done.setup.confirmations["dom"], slot, recovery),
    ]


def confirmed(done: Sum, name: str) -> tuple[Mapping[str, bytes], Mapping[str, bytes], bytes, bytes]:
    """What shows which setup a member signed: hashes of all keys messages and headers, of what it published, and its signature."""
    headers = {dealer: message.header.hash for dealer, message in done.setup.shares.items()}
    return done.setup.keys, headers, done.setup.published[name], done.setup.signatures[name]


def requested(done: Sum, stage: str, parts: Mapping[str, bytes]) -> bytes:
    """A request of the coordinator's to the first member, signed."""
    envelope = Envelope("coordinator", "ada", "run", 1, 1, stage, done.manifest.hash, 0, pack(parts))
    return seal_envelope(done.cohort.coordinator, envelope)


def _first(chunks: list[bytes]) -> ShownChunk:
    return ShownChunk(chunks[0], MerkleTree([leaf_hash(chunk) for chunk in chunks]).path(0))
