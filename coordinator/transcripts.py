"""A run's transcripts on the coordinator's disk, one file a sum: what an audit reads long after the sum."""

from __future__ import annotations

from pathlib import Path

from coordinator.errors import RegistryError
from protocols.errors import MalformedMessage
from protocols.files import write_file
from protocols.transcript import Transcript


def keep_transcript(directory: Path, transcript: Transcript) -> None:
    """Writes a finished sum's transcript below the run's directory; a sum that was not yet in the journal is replaced."""
    manifest = transcript.manifest
    write_file(transcript_path(directory, manifest.round, manifest.sum), transcript.to_bytes())


def kept_transcripts(directory: Path) -> list[Transcript]:
    """All that were kept of a run, in no order.

    Raises:
        RegistryError: a file is no transcript.
    """
    return [_read(path) for path in sorted((directory / "transcripts").glob("*-*"))]


def transcript_path(directory: Path, round_number: int, kind: str) -> Path:
    return directory / "transcripts" / f"{round_number}-{kind}"


def _read(path: Path) -> Transcript:
    try:
        return Transcript.from_bytes(path.read_bytes())
    except MalformedMessage:
        raise RegistryError(f"{path}: no transcript of a sum; restore the file from a backup") from None
