"""A sum's transcript: what was asked, who took part, what was opened and what came out, as one message that speaks for itself.

Whoever holds the roster can check all of it but the total, which travels beside it. A member that followed it says so in a
signed answer; threshold many such answers are how an institution that was absent knows the published state (PROTOCOL, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocols.codec import Message
from protocols.epoch import EpochCertificate, EpochManifest, verify_epoch
from protocols.errors import ProtocolError, RosterError, SignatureError, TooFewSurvivors
from protocols.identity import open_envelope
from protocols.pack import pack
from protocols.parties import Parties
from protocols.parts import Survivors
from protocols.roster import Roster
from protocols.secagg import SumManifest, SurvivorCertificate, verify_certificate

# First what binds the coordinator, then what it is bound to; of a large total all but the last part comes in between.
COMMITTING, TOTAL_PART, CONFIRMING = "query.transcript", "query.total_part", "query.total"


@dataclass(frozen=True)
class Transcript(Message):
    """Its hash is the one that the next manifest names."""

    manifest: SumManifest
    epoch: EpochManifest
    setup: EpochCertificate
    certificate: SurvivorCertificate
    opened: bytes  # hash of the opened seeds
    total: bytes  # Merkle root over the total's written chunks
    after: bytes  # hash of the state that follows


def survivors_of(epoch: EpochManifest, certificate: SurvivorCertificate) -> Survivors:
    """Whom a total is of, and the terms of their epoch: what `Terms.apply` needs of a transcript beside the total."""
    return Survivors(certificate.proposal.members, epoch.threshold, epoch.colluding)


def verify_transcript(transcript: Transcript, roster: Roster, coordinator_key: bytes) -> None:
    """Whether a certified epoch of institutions on this roster, under this coordinator, agreed on the set that was opened.

    Raises:
        ProtocolError: they did not; the text says what is missing.
    """
    manifest, epoch = transcript.manifest, transcript.epoch
    if (manifest.epoch_hash, manifest.run) != (epoch.hash, epoch.run):
        raise ProtocolError("the transcript's manifest belongs to another epoch or run than its members")
    manifest.check(epoch, coordinator_key)
    verify_epoch(transcript.setup, epoch, roster, coordinator_key)
    verify_certificate(manifest, epoch, roster, transcript.certificate)


def check_follows(transcript: Transcript, former: Transcript) -> None:
    """Raises ProtocolError unless a sum began where `former` ended, and its event chain is not shorter."""
    manifest = transcript.manifest
    here, before = (f"the {one.sum} sum of round {one.round}" for one in (manifest, former.manifest))
    if (manifest.previous_transcript, manifest.state_hash) != (former.hash, former.after):
        raise ProtocolError(f"{here} does not follow {before}")
    if manifest.chain_length < former.manifest.chain_length:
        raise ProtocolError(f"{here} names fewer events than {before}")


def confirmation(transcript: Transcript) -> dict[str, bytes]:
    """What a member answers once it has come to the transcript's state by itself."""
    return {"state": transcript.after, "transcript": transcript.hash}


def verify_confirmations(transcript: Transcript, confirmations: Mapping[str, bytes], parties: Parties) -> None:
    """Raises ProtocolError unless at least threshold members of the transcript's epoch signed `confirmation`, and nobody else is named.

    A member signs with its key of the epoch, or with a later one that it has now; one that was given up before the epoch counts not.
    """
    manifest, epoch = transcript.manifest, transcript.epoch
    of_epoch = parties.roster_of(epoch)
    said, stage = pack(confirmation(transcript)), f"{manifest.sum}/{CONFIRMING}"
    for name, sealed in confirmations.items():
        try:
            envelope = open_envelope(sealed, of_epoch)
        except (RosterError, SignatureError):
            envelope = open_envelope(sealed, parties.roster)
        stated = (envelope.sender, envelope.run, envelope.round, envelope.stage, envelope.payload)
        if name not in epoch.members or stated != (name, manifest.run, manifest.round, stage, said):
            raise ProtocolError(
                f"what is shown of {name} does not confirm the state after the {manifest.sum} sum of round {manifest.round}"
            )
    if len(confirmations) < epoch.threshold:
        raise TooFewSurvivors(f"{len(confirmations)} institutions confirm the state and {epoch.threshold} are needed")
