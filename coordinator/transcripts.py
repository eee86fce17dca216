"""What an audit reads of a run's directory long after the run: every transcript, and the parties whose signatures it bears."""

from __future__ import annotations

from pathlib import Path

from coordinator.errors import RegistryError
from protocols.errors import MalformedMessage
from protocols.files import write_file
from protocols.parties import Parties, parties_toml, read_parties
from protocols.transcript import Transcript


def keep_parties(directory: Path, parties: Parties) -> None:
    """Writes `roster.toml` in the run's directory, in the form that institutions have it."""
    write_file(directory / "roster.toml", parties_toml(parties).encode())


def kept_parties(directory: Path) -> Parties:
    """Raises RosterError if there are none."""
    return read_parties(directory / "roster.toml")


def kept_transcripts(directory: Path) -> list[Transcript]:
    """Those of all finished sums, in no order.

    Raises:
        RegistryError: a file is no transcript.
    """
    return [_read(path) for path in sorted((directory / "sums").glob("*/transcript"))]


def _read(path: Path) -> Transcript:
    try:
        return Transcript.from_bytes(path.read_bytes())
    except MalformedMessage:
        raise RegistryError(f"{path}: no transcript of a sum; restore the file from a backup") from None
