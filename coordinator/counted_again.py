"""What counting again proves of a run: totals from the uploads that are still kept, and faults of institutions from what they signed."""

from __future__ import annotations

from pathlib import Path

from coordinator.blame import Blame
from coordinator.recount import can_be_recounted, recount
from coordinator.store import RunStore
from coordinator.transcripts import kept_parties
from protocols.audit import Audit
from protocols.errors import ConsortiumError
from protocols.parties import Parties


def verify_totals(audit: Audit, run: str, directory: Path, given: Parties | None) -> None:
    """Counts every sum again whose uploads are kept, and says of how many that is no longer possible."""
    try:
        parties = given or kept_parties(directory)
    except ConsortiumError as error:
        audit.failed.append(str(error))
        return
    records = [one for one in RunStore(directory).records if (one.folder / "transcript").exists()]
    kept = [one for one in records if can_be_recounted(one)]
    for record in kept:
        audit.attempt(recount, record, parties.roster)
    if len(kept) < len(records):
        audit.unproved.append(
            f"{len(records) - len(kept)} sums of run {run} cannot be counted again: their uploads were kept for `audit_rounds` rounds."
        )


def verify_faults(audit: Audit, run: str, directory: Path, given: Parties | None) -> None:
    """Adds what is proved against institutions of the run."""
    folder = directory / "proofs"
    if not folder.is_dir():
        return
    try:
        parties = given or kept_parties(directory)
    except ConsortiumError as error:
        audit.failed.append(str(error))
        return
    for sentence in Blame(folder, parties.roster, parties.coordinator_key).proved().values():
        audit.proved.append(f"By what it signed in run {run}: {sentence}.")
