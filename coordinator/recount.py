"""A finished sum counted again from the masked uploads that are still kept: all of it, not only the chunks that nodes drew."""

from __future__ import annotations

from coordinator.sum_record import SumRecord
from coordinator.uploads import stored_uploads
from protocols.errors import ProtocolError, WrongTotal
from protocols.roster import Roster
from protocols.secagg import check_opened, remove_masks, total_root, write_total


def can_be_recounted(record: SumRecord) -> bool:
    """Whether the uploads of a finished sum are still kept."""
    return (record.folder / "transcript").exists() and (record.folder / "uploads").is_dir()


def recount(record: SumRecord, roster: Roster) -> str:
    """Adds all uploads, takes out all opened masks, and compares with what the transcript names; what that proves, in a sentence.

    Raises:
        ProtocolError: an upload is missing or not what its sender signed, or other seeds were opened than the transcript names.
        WrongTotal: the total is another one.
    """
    transcript, opened = record.transcript, record.opened
    if transcript is None or opened is None:
        raise ProtocolError(f"{record.folder}: the sum is not finished, or its uploads are no longer kept")
    manifest, proposal = transcript.manifest, transcript.certificate.proposal
    if opened.hash != transcript.opened:
        raise ProtocolError(f"{record.folder}: the opened seeds are not those that the transcript names; the file was changed")
    check_opened(transcript.epoch, proposal, opened)
    try:
        accumulator = stored_uploads(manifest, {name: record.spool(transcript.epoch, name, roster) for name in proposal.members})
    except OSError:
        raise ProtocolError(f"{record.folder}: an upload cannot be read; restore the file from a backup") from None
    if accumulator.roots != dict(proposal.roots):
        raise ProtocolError(f"{record.folder}: the uploads are not those of the set that was signed; a file is missing or was changed")
    total = write_total(manifest.lanes, remove_masks(accumulator, opened))
    which = f"{manifest.sum} sum of round {manifest.round} of run {manifest.run}"
    if total_root(manifest.lanes, total) != transcript.total:
        raise WrongTotal(f"the {which} is not the sum of its {len(proposal.roots)} uploads")
    return f"The {which} is the sum of its {len(proposal.roots)} uploads in all {manifest.lanes.size} lanes."
