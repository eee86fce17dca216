"""What counting again proves of a run: totals from the uploads that are still kept, and faults of institutions from what they signed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coordinator.blame import Blame
from coordinator.errors import ChainBroken
from coordinator.recount import KeptSum
from coordinator.transcripts import KeptTranscripts, kept_parties
from protocols.audit import Audit, counted
from protocols.parties import Parties


def verify_kept_files(audit: Audit, kept: KeptTranscripts, until: int, rounds: int) -> list[KeptSum]:
    """Whether what should be kept of finished sums is there; returns those whose uploads are.

    Args:
        until: the last finished round.
        rounds: for how many rounds the plan keeps uploads.
    """
    sums = [KeptSum(kept.folder(one), one) for _, one in sorted(kept.transcripts.items())]
    for one in sums:
        audit.read(one.check_manifest)
        if one.transcript.manifest.round + rounds > until:
            audit.read(_check_present, one, one.transcript.manifest.round + rounds)
    return [one for one in sums if not one.missing]


def verify_totals(audit: Audit, run: str, kept: Sequence[KeptSum], gone: int, parties: Parties) -> None:
    """Counts every sum again whose uploads are kept, and says of how many that is no longer possible."""
    for one in kept:
        audit.attempt(one.recount, parties.roster_of(one.transcript.epoch))
    if gone:
        audit.unproved.append(f"{counted(gone, 'sum')} of run {run} cannot be counted again: uploads are kept for `audit_rounds` rounds.")


def verify_faults(audit: Audit, run: str, directory: Path, given: Parties | None) -> None:
    """Adds what is proved against institutions of the run."""
    folder = directory / "proofs"
    parties = (given or audit.read(kept_parties, directory)) if folder.is_dir() else None
    if parties is not None:
        for sentence in Blame(folder, parties).proved().values():
            audit.proved.append(f"By what it signed in run {run}: {sentence}.")


def _check_present(one: KeptSum, until: int) -> None:
    missing = one.missing
    if not (one.folder / "uploads").is_dir():
        raise ChainBroken(f"the uploads of the {one.name} should be kept until round {until} and are missing; restore {one.folder}")
    if missing:
        names = ", ".join(str(path.relative_to(one.folder)) for path in missing)
        raise ChainBroken(f"{one.folder}: {names} of the {one.name} should be kept until round {until}; restore from a backup")
