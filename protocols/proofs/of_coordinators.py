"""What a coordinator signed and could not have signed honestly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocols.chain import HASH_BYTES, ChainHead, extend
from protocols.codec import Message
from protocols.errors import NoProof, WrongTotal
from protocols.identity import Envelope, open_envelope_of
from protocols.proofs.signed import part_of, parts_of
from protocols.roster import Roster
from protocols.secagg import (
    OpenedSeeds,
    ShownTotal,
    SumManifest,
    SurvivorCertificate,
    SurvivorProposal,
    check_opened,
    check_shown,
)
from protocols.stages import ANSWERED_ONCE
from protocols.transcript import COMMITTING, Transcript, verify_transcript


@dataclass(frozen=True)
class WrongTotalProof(Message):
    """The coordinator's signed commitment to a transcript, the seeds that it names, and a chunk that does not add up."""

    committed: bytes  # signed envelope
    opened: OpenedSeeds
    shown: ShownTotal

    def accuse(self, roster: Roster, coordinator_key: bytes) -> str:
        """What is proved, in a sentence.

        Raises:
            NoProof, ProtocolError: nothing is.
        """
        transcript = self.transcript(coordinator_key)
        verify_transcript(transcript, roster, coordinator_key)
        if self.opened.hash != transcript.opened:
            raise NoProof("these seeds are not those that the transcript names")
        try:
            check_opened(transcript.epoch, transcript.certificate.proposal, self.opened)
            check_shown(transcript.manifest, transcript.certificate.proposal, self.opened, transcript.total, self.shown)
        except WrongTotal as fault:
            manifest = transcript.manifest
            return f"run {manifest.run}, {manifest.sum} sum of round {manifest.round}: {fault}"
        raise NoProof("the chunk that is shown adds up")

    def transcript(self, coordinator_key: bytes) -> Transcript:
        """What the coordinator committed to, unverified but for its signature on the commitment.

        Raises:
            NoProof, ProtocolError: it did not.
        """
        envelope = open_envelope_of(self.committed, coordinator_key)
        if not envelope.stage.endswith("/" + COMMITTING):
            raise NoProof("the signed message commits to no transcript")
        return Transcript.from_bytes(part_of(envelope, "transcript"))


@dataclass(frozen=True)
class ContradictionProof(Message):
    """Two requests that an honest coordinator never signs both of: for one slot, two manifests; for one manifest, two sets; two ends of
    one event chain; or two requests under one subject in a stage that is answered once.
    """

    first: bytes  # signed envelopes
    second: bytes

    def accuse(self, coordinator_key: bytes) -> str:
        """What is proved, in a sentence.

        Raises:
            NoProof, ProtocolError: nothing is.
        """
        first, second = (open_envelope_of(data, coordinator_key) for data in (self.first, self.second))
        if _is_answered_once(first) and _subject(first) == _subject(second) and first.payload != second.payload:
            asked = f"{first.stage}, round {first.round}, attempt {first.attempt}"
            return f"run {first.run}: the coordinator signed two different requests as {asked}"
        return _two_plans_of_one_sum(_Asked.by(first), _Asked.by(second))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request says of its sum."""

    manifest: SumManifest
    proposal: SurvivorProposal | None  # the set that is to be signed or opened
    digests: bytes  # of the event chain's last events

    @classmethod
    def by(cls, envelope: Envelope) -> _Asked:
        parts = parts_of(envelope)
        if "manifest" not in parts or envelope.stage.startswith("epoch/"):
            raise NoProof("the two requests do not contradict each other")
        return cls(SumManifest.from_bytes(parts["manifest"]), _proposal(parts), parts.get("chain", b""))

    @property
    def head(self) -> ChainHead:
        return ChainHead(self.manifest.chain_length, self.manifest.chain_head)


def _proposal(parts: Mapping[str, bytes]) -> SurvivorProposal | None:
    if "proposal" in parts:
        return SurvivorProposal.from_bytes(parts["proposal"])
    return SurvivorCertificate.from_bytes(parts["certificate"]).proposal if "certificate" in parts else None


def _two_plans_of_one_sum(first: _Asked, second: _Asked) -> str:
    one, other = first.manifest, second.manifest
    if (one.epoch_hash, one.slot) == (other.epoch_hash, other.slot) and one.hash != other.hash:
        return f"run {one.run}: the coordinator signed two manifests for slot {one.slot} of one epoch"
    if _is_fork(*sorted((first, second), key=lambda asked: asked.head.length)):
        return f"the coordinator signed event chains of {one.chain_length} and of {other.chain_length} events that are not one"
    # Only within a manifest: a set that cannot be opened may be given up, and another one proposed in the sum's next attempt.
    if one.hash == other.hash and first.proposal and second.proposal and first.proposal != second.proposal:
        return f"run {one.run}: the coordinator asked for two sets of survivors in attempt {one.attempt} at one {one.sum} sum"
    raise NoProof("the two requests do not contradict each other")


def _is_fork(shorter: _Asked, longer: _Asked) -> bool:
    """Whether the longer chain's own digests lead to its head from elsewhere than the shorter one's."""
    size = HASH_BYTES * (longer.head.length - shorter.head.length)
    between = longer.digests[len(longer.digests) - size :] if size <= len(longer.digests) else None
    return between is not None and extend(shorter.head.hash, between) != longer.head.hash


def _is_answered_once(envelope: Envelope) -> bool:
    _, _, message_type = envelope.stage.partition("/")
    return message_type in ANSWERED_ONCE


def _subject(envelope: Envelope) -> tuple[str, str, int, int, str]:
    return envelope.recipient, envelope.run, envelope.round, envelope.attempt, envelope.stage
