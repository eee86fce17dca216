"""Proof of a fault that convinces whoever has the roster and the coordinator's key, and needs nobody's word (PROTOCOL, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.codec import Message
from protocols.errors import NoProof, WrongTotal
from protocols.identity import Envelope, open_envelope_of
from protocols.pack import unpack
from protocols.roster import Roster
from protocols.secagg import OpenedSeeds, ShownTotal, check_opened, check_shown
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
        envelope = open_envelope_of(self.committed, coordinator_key)
        if not envelope.stage.endswith("/" + COMMITTING):
            raise NoProof("the signed message commits to no transcript")
        transcript = Transcript.from_bytes(unpack(envelope.payload)["transcript"])
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


@dataclass(frozen=True)
class ContradictionProof(Message):
    """Two requests to one institution that an honest coordinator never signs both of, because they are answered once."""

    first: bytes  # signed envelopes
    second: bytes

    def accuse(self, coordinator_key: bytes) -> str:
        """What is proved, in a sentence.

        Raises:
            NoProof, ProtocolError: nothing is.
        """
        first, second = (open_envelope_of(data, coordinator_key) for data in (self.first, self.second))
        if _subject(first) != _subject(second) or first.payload == second.payload:
            raise NoProof("the two requests do not contradict each other")
        return f"the coordinator signed two different requests for {first.stage} of round {first.round}, attempt {first.attempt}, run {first.run}"


def _subject(envelope: Envelope) -> tuple[str, str, int, int, str]:
    return envelope.recipient, envelope.run, envelope.round, envelope.attempt, envelope.stage
