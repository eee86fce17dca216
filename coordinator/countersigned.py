"""What institutions signed of a run: its transcripts, and in each the head of the event chain, which a replaced registry does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.errors import ChainBroken
from coordinator.registry.reading import CHANGED
from coordinator.registry.records import Event, Participant, Rotation, Round
from coordinator.transcripts import KeptTranscripts, Place, kept_parties
from protocols.audit import Audit, counted
from protocols.errors import ProtocolError
from protocols.parties import Parties
from protocols.transcript import Transcript, check_follows, verify_transcript

Kept = Mapping[Place, Transcript]
REPLACED = "the registry was replaced or cut, restore a backup"


@dataclass(frozen=True, slots=True)
class SignedRun:
    """A run as the registry has it, and whose signatures count."""

    run: str
    rounds: Sequence[Round]
    participants: Sequence[Participant] | None  # None where their rows cannot be read, so that no key is compared with them
    given: Parties | None  # those of an institution; None for those that the coordinator kept
    finished: bool = False
    rotations: Sequence[Rotation] = ()  # that the registry has: a run that is over keeps the keys of its day
    given_up: frozenset[tuple[str, str]] = frozenset()  # names and keys that were revoked before the institution was approved again

    def parties(self, directory: Path) -> Parties:
        """The keys that signatures are checked with.

        Raises:
            ChainBroken: the registry has other ones. RosterError: the coordinator kept none.
        """
        parties = self.given or kept_parties(directory)
        if self.participants is None:
            return parties
        registered = {(one.name, one.public_key) for one in self.participants}
        registered |= {(one.institution, one.old_key) for one in self.rotations} | self.given_up
        wrong = [entry.name for entry in parties.roster.entries if (entry.name, entry.public_key.hex()) not in registered]
        if wrong:
            source = "the roster that was given" if self.given else f"the one of run {self.run}"
            raise ChainBroken(f"the registry has another key of {', '.join(wrong)} than {source}; compare both with the institutions")
        return parties


def named_transcripts(audit: Audit, signed: SignedRun, kept: KeptTranscripts) -> KeptTranscripts:
    """Those that the registry's rows name or that follow the last of them; the audit says which are other ones, damaged or absent.

    Raises:
        ChainBroken: a row names what is no hash.
    """
    audit.failed += kept.faults
    other = [place for place, digest in _recorded(signed) if place in kept.transcripts and kept.transcripts[place].hash != digest]
    for place in other:
        one = kept.transcripts[place]
        audit.failed.append(
            f"{kept.folder(one) / 'transcript'}: the transcript is another one than the registry names; the file was changed or is "
            "damaged, or the registry was replaced; restore it from a backup"
        )
    named = kept.without(other)
    absent = [place for place, _ in _recorded(signed) if place not in named.transcripts and place not in named.damaged]
    if not kept.transcripts and not kept.faults:
        _no_transcript(audit, signed, kept.directory)
    elif absent:
        names = ", ".join(f"{number}-{name}" for number, name in absent)
        audit.unproved.append(f"Transcripts of run {signed.run} that are not in {kept.directory / 'sums'}: {names}.")
    return named


def _no_transcript(audit: Audit, signed: SignedRun, directory: Path) -> None:
    """Transcripts are kept for good, so that a finished run without any has lost them."""
    if signed.finished:
        audit.failed.append(f"run {signed.run} is finished, and none of its transcripts is in {directory / 'sums'}; restore a backup")
    else:
        audit.unproved.append(f"Run {signed.run}: no transcript is kept, so that nothing here bears an institution's signature.")


def verify_signed(audit: Audit, signed: SignedRun, kept: KeptTranscripts, events: Sequence[Event]) -> int:
    """Adds what the transcripts that the registry names prove; returns the number of events that institutions countersigned.

    Args:
        events: the whole chain of the registry.
    """
    if not kept.transcripts:
        return 0
    before = len(audit.failed)
    audit.attempt(_transcripts, signed, kept.transcripts, kept.directory)
    if len(audit.failed) > before:  # signatures that do not hold vouch for nothing
        return 0
    audit.attempt(_heads, signed.run, kept.transcripts, events)
    return 0 if len(audit.failed) > before else max(one.manifest.chain_length for one in kept.transcripts.values())


def _transcripts(signed: SignedRun, kept: Kept, directory: Path) -> str:
    parties, former = signed.parties(directory), None
    places = [place for place, _ in _recorded(signed)]
    for number, place in enumerate(places + _unrecorded(signed, kept)):
        one = kept.get(place)
        if one is not None:
            _check_transcript(signed, one, parties)
            _check_order(signed.run, one, former, first=number == 0)
        former = one
    for row in signed.rounds:
        _check_row(signed.run, row, kept)
    origin = "the roster that was given" if signed.given else "this registry"
    those = "is that of its round and" if len(kept) == 1 else "are those of its rounds, follow each other, and each"
    return (
        f"{counted(len(kept), 'transcript')} of run {signed.run} {those} bears the signatures of enough "
        f"of its {len(parties.roster.entries)} institutions, by the keys of {origin}."
    )


def _recorded(signed: SignedRun) -> list[tuple[Place, bytes]]:
    try:
        return [((row.number, name), bytes.fromhex(digest)) for row in signed.rounds for name, digest in row.transcripts.items()]
    except (ValueError, TypeError):
        raise ChainBroken(f"a transcript hash of run {signed.run} is none; {CHANGED}") from None


def _unrecorded(signed: SignedRun, kept: Kept) -> list[Place]:
    """Sums of the round under way, whose row is written when it is over."""
    recorded = _recorded(signed)
    known = {place for place, _ in recorded}
    following = 1 + max((row.number for row in signed.rounds), default=-1)
    left = sorted((one.manifest.attempt, place) for place, one in kept.items() if place not in known)
    late = [place for _, place in left if place[0] != following]
    if late:
        raise ChainBroken(f"run {signed.run}: round {late[0][0]} has a transcript and no row in this registry; {REPLACED}")
    ordered: list[Place] = []
    rest = {kept[place].manifest.previous_transcript: place for _, place in left}
    digest = recorded[-1][1] if recorded else bytes(32)
    while digest in rest:
        ordered.append(rest.pop(digest))
        digest = kept[ordered[-1]].hash
    return ordered + list(rest.values())


def _check_transcript(signed: SignedRun, one: Transcript, parties: Parties) -> None:
    if one.manifest.run != signed.run:
        raise ChainBroken(f"{_where(one)}: the transcript lies in the folder of run {signed.run}; {REPLACED}")
    try:
        verify_transcript(one, parties.roster_of(one.epoch), parties.coordinator_key)
    except ProtocolError as error:
        raise ChainBroken(f"{_where(one)}: {error}") from None


def _check_order(run: str, one: Transcript, former: Transcript | None, first: bool) -> None:
    """What follows a transcript that is not kept cannot be compared."""
    if first and one.manifest.previous_transcript != bytes(32):
        raise ChainBroken(f"{_where(one)}: the transcript is not the first of run {run}; {REPLACED}")
    try:
        if former is not None:
            check_follows(one, former)
    except ProtocolError as error:
        raise ChainBroken(f"run {run}: {error}; {REPLACED}") from None


def _where(one: Transcript) -> str:
    return f"run {one.manifest.run}, {one.manifest.sum} sum of round {one.manifest.round}"


def _check_row(run: str, row: Round, kept: Kept) -> None:
    """The row's state is what its last sum led to, and who is counted is in every set."""
    of_row = [kept[row.number, name] for name in row.transcripts if (row.number, name) in kept]
    counted = {part.institution for part in row.contributions if part.missing_from is None}
    if any(not counted <= set(one.certificate.proposal.members) for one in of_row):
        raise ChainBroken(f"round {row.number} of run {run} counts an institution that is not in its transcripts' sets; {REPLACED}")
    last = kept.get((row.number, list(row.transcripts)[-1])) if row.transcripts else None
    if last is not None and last.after.hex() != row.state_sha256:
        raise ChainBroken(f"round {row.number} of run {run} ended with another state than its transcript; {REPLACED}")


def _heads(run: str, kept: Kept, events: Sequence[Event]) -> str:
    longest = max(kept.values(), key=lambda one: one.manifest.chain_length)
    for one in kept.values():
        manifest, signers = one.manifest, len(one.certificate.signatures)
        said = f"in round {manifest.round} of run {run} {signers} institutions countersigned {counted(manifest.chain_length, 'event')}"
        if manifest.chain_length > len(events):
            raise ChainBroken(f"{said}, and this registry has {len(events)}; {REPLACED}")
        if manifest.chain_length and events[manifest.chain_length - 1].hash != manifest.chain_head:
            raise ChainBroken(f"{said} that are not those of this registry; {REPLACED}")
    signers = len(longest.certificate.signatures)
    return (
        f"The first {longest.manifest.chain_length} events are those that {signers} institutions countersigned "
        f"in round {longest.manifest.round} of run {run}."
    )
