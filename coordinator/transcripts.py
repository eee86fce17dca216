"""What an audit reads of a run's directory long after the run: every transcript, and the parties whose signatures it bears."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from coordinator.errors import RegistryError
from protocols.errors import MalformedMessage
from protocols.files import write_file
from protocols.parties import Parties, parties_toml, read_parties
from protocols.transcript import Transcript

Place = tuple[int, str]  # round and sum


@dataclass(frozen=True, slots=True)
class KeptTranscripts:
    """Transcripts of a run's finished sums, and for those that cannot be used, why."""

    directory: Path
    transcripts: Mapping[Place, Transcript]
    faults: tuple[str, ...] = ()
    damaged: frozenset[Place] = frozenset()  # there, but not usable

    def folder(self, one: Transcript) -> Path:
        """The record of the transcript's sum."""
        return self.directory / "sums" / _folder_name(one)

    def without(self, places: Collection[Place]) -> KeptTranscripts:
        """The others, where these proved to be other ones than they should be."""
        rest = {place: one for place, one in self.transcripts.items() if place not in places}
        return replace(self, transcripts=rest, damaged=self.damaged | set(places))


def keep_parties(directory: Path, parties: Parties) -> None:
    """Writes `roster.toml` in the run's directory, in the form that institutions have it."""
    write_file(directory / "roster.toml", parties_toml(parties).encode())


def kept_parties(directory: Path) -> Parties:
    """Raises RosterError if there are none."""
    return read_parties(directory / "roster.toml")


def kept_transcripts(directory: Path) -> KeptTranscripts:
    """Those of all finished sums, in no order; a file that is none is among the faults."""
    transcripts, faults, damaged = {}, [], set()
    for path in sorted((directory / "sums").glob("*/transcript")):
        try:
            one = _read(path)
            transcripts[one.manifest.round, one.manifest.sum] = one
        except RegistryError as error:
            faults.append(str(error))
            damaged.add(_place_of(path.parent.name))
    return KeptTranscripts(directory, transcripts, tuple(faults), frozenset(damaged))


def _read(path: Path) -> Transcript:
    try:
        one = Transcript.from_bytes(path.read_bytes())
    except OSError as error:
        raise RegistryError(f"{path}: the transcript cannot be read ({error.strerror}); check its rights, or restore a backup") from None
    except MalformedMessage:
        raise RegistryError(f"{path}: no transcript of a sum, the file was changed or is damaged; restore it from a backup") from None
    if _folder_name(one) != path.parent.name:
        raise RegistryError(f"{path}: not the transcript of its folder's sum, the file was changed or is damaged; restore it from a backup")
    return one


def _folder_name(one: Transcript) -> str:
    """As the coordinator names it (`RunStore.record_path`)."""
    return f"{one.manifest.round:05}-{one.manifest.sum}-{one.manifest.attempt}"


def _place_of(folder: str) -> Place:
    number, _, rest = folder.partition("-")
    return (int(number) if number.isdecimal() else -1, rest.rpartition("-")[0])
