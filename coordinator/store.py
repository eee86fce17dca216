"""What a run leaves on the coordinator's disk between two steps: states, and a journal of sums. No vector of an institution, ever."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from coordinator.errors import JobError
from protocols.aggregation.rebalance import Proposal
from protocols.errors import ConsortiumError
from protocols.files import write_file
from protocols.pack import pack, unpack
from protocols.state import State, load_state, save_state, state_hash
from protocols.transcript import Transcript


@dataclass(frozen=True, slots=True)
class Part:
    """One institution's traffic in the round so far; `missing_from` names the first stage that it did not answer."""

    bytes_up: int = 0
    bytes_down: int = 0
    missing_from: str | None = None


@dataclass(frozen=True, slots=True)
class Journal:
    """Where a run stands. `done` counts finished sums of the plan; what the round under way brought is kept until its row is written."""

    done: int = 0
    state_sha256: str = ""
    transcript: str = ""  # hash of the last sum's transcript, hexadecimal
    epoch: int = 0  # number of the last epoch that was begun
    attempt: int = 0  # attempts begun at the next sum
    survivors: tuple[str, ...] = ()  # the set that was proposed for the next sum; once signed it is the only one
    abandoned: tuple[tuple[str, ...], ...] = ()  # sets of the next sum that were given up
    transcripts: dict[str, str] = field(default_factory=dict)  # of the round under way
    figures: dict[str, float] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    seconds: float = 0.0
    threshold: int = 0  # of the last epoch


@dataclass(frozen=True, slots=True)
class Published:
    """The last finished sum: its transcript, total and proposal, and the signed answers of institutions that came to its state."""

    transcript: Transcript
    total: NDArray[np.uint32]
    proposal: Proposal = field(default_factory=dict)
    confirmations: Mapping[str, bytes] = field(default_factory=dict)


class RunStore:
    """A run's directory. Every step is one atomic replacement of the journal, after the files it names are there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def journal(self) -> Journal:
        """Raises JobError if the journal is damaged."""
        path = self.directory / "journal.json"
        if not path.exists():
            return Journal()
        try:
            fields: dict[str, Any] = json.loads(path.read_text())
            parts = {name: Part(**part) for name, part in fields.pop("parts").items()}
            abandoned = tuple(tuple(members) for members in fields["abandoned"])
            return Journal(**fields | {"parts": parts, "survivors": tuple(fields["survivors"]), "abandoned": abandoned})
        except (OSError, ValueError, KeyError, TypeError):
            raise JobError(f"{path}: the run's journal is damaged; start the plan again in a new directory") from None

    def write(self, journal: Journal) -> None:
        write_file(self.directory / "journal.json", json.dumps(asdict(journal), indent=1, sort_keys=True).encode())

    def update(self, **changes: Any) -> Journal:
        """Replaces fields of the journal."""
        journal = replace(self.journal, **changes)
        self.write(journal)
        return journal

    def keep_state(self, state: State) -> str:
        """Writes the state's file, which no journal names yet, and returns the state's hash."""
        digest = state_hash(state).hex()
        save_state(state, self.state_path(digest))
        return digest

    def state(self, digest: str) -> State:
        """Raises JobError if the file is not that state."""
        state = load_state(self.state_path(digest))
        if state_hash(state).hex() != digest:
            raise JobError(f"{self.state_path(digest)}: not the state that its name says; start the plan again in a new directory")
        return state

    def state_path(self, digest: str) -> Path:
        return self.directory / "states" / f"{digest}.safetensors"

    def keep_published(self, transcript: Transcript, total: NDArray[np.uint32], proposal: Proposal) -> None:
        """Writes what the next journal will name as the last sum."""
        folder = self._published(transcript.hash.hex())
        write_file(folder / "total", total.astype("<u4").tobytes())
        write_file(folder / "proposal.safetensors", save(dict(proposal)))
        write_file(folder / "transcript", transcript.to_bytes())

    def keep_confirmations(self, transcript: Transcript, confirmations: Mapping[str, bytes]) -> None:
        """Adds signed answers to those of a published sum."""
        path = self._published(transcript.hash.hex()) / "confirmations"
        known = unpack(path.read_bytes()) if path.exists() else {}
        write_file(path, pack(known | dict(confirmations)))

    @property
    def published(self) -> Published | None:
        """What the journal names as the last sum; None before the first. Raises JobError if a file is missing or damaged."""
        digest = self.journal.transcript
        if not digest:
            return None
        folder = self._published(digest)
        try:
            transcript = Transcript.from_bytes((folder / "transcript").read_bytes())
            total = np.frombuffer((folder / "total").read_bytes(), "<u4")
            proposal, confirmations = load((folder / "proposal.safetensors").read_bytes()), folder / "confirmations"
            return Published(transcript, total, proposal, unpack(confirmations.read_bytes()) if confirmations.exists() else {})
        except (OSError, ValueError, SafetensorError, ConsortiumError):
            raise JobError(f"{folder}: the last sum's files are damaged; start the plan again in a new directory") from None

    def drop_published(self) -> None:
        """Removes the sums before the one that the journal names."""
        for folder in self.directory.glob("published/*"):
            if folder.name != self.journal.transcript:
                shutil.rmtree(folder)

    def _published(self, digest: str) -> Path:
        return self.directory / "published" / digest
