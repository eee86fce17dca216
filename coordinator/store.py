"""What a run leaves on the coordinator's disk between two steps: states, epochs, a record of every sum, and a journal of where it stands.

Masked vectors are there until an audit no longer needs them; no vector of an institution in clear, ever.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from coordinator.blame import Blame
from coordinator.errors import JobError
from coordinator.outbox import Outbox
from coordinator.sum_record import SumRecord
from protocols.files import write_file
from protocols.parties import Parties
from protocols.schedule import PlannedSum
from protocols.scratch import Scratch
from protocols.state import State, load_state, save_state, state_hash


@dataclass(frozen=True, slots=True)
class Part:
    """One institution's traffic in the round so far; `missing_from` names the first stage that it did not answer, `reason` says why."""

    bytes_up: int = 0
    bytes_down: int = 0
    missing_from: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Journal:
    """Where a run stands. `done` counts finished sums of the plan; what the round under way brought is kept until its row is written."""

    done: int = 0
    state_sha256: str = ""
    transcript: str = ""  # hash of the last sum's transcript, hexadecimal
    last_sum: str = ""  # folder of its record
    epoch: int = 0  # number of the last epoch that was begun
    attempt: int = 0  # attempts begun at the next sum
    given_up: bool = True  # whether the last of them is; only before any, or when it can never be finished
    survivors: tuple[str, ...] = ()  # the set that was proposed for the next sum; once signed it is the only one
    replaced: bool = False  # whether that set took the place of one that institutions were bound against
    transcripts: dict[str, str] = field(default_factory=dict)  # of the round under way
    figures: dict[str, float] = field(default_factory=dict)  # loss, metric and the sums' own, by name
    parts: dict[str, Part] = field(default_factory=dict)
    seconds: float = 0.0
    threshold: int = 0  # of the last epoch


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
            return Journal(**fields | {"parts": parts, "survivors": tuple(fields["survivors"])})
        except (OSError, ValueError, KeyError, TypeError):
            raise JobError(f"{path}: the run's journal is damaged; start the plan again in a new directory") from None

    def is_between_sums(self, planned: int) -> bool:
        """Whether the run can end here: no set was proposed for the next sum, and it is not the institutions' turn to hear of the last."""
        journal = self.journal
        return not journal.survivors and journal.done < planned

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

    def record_path(self, planned: PlannedSum, attempt: int) -> Path:
        """Folder of one attempt at a sum."""
        return self.directory / "sums" / f"{planned.round:05}-{planned.kind}-{attempt}"

    def next_attempt(self, planned: PlannedSum) -> int:
        """A number that no attempt at the sum has, not even one whose process died before the journal named it."""
        attempt = self.journal.attempt + 1
        while self.record_path(planned, attempt).exists():
            attempt += 1
        return attempt

    @property
    def records(self) -> list[SumRecord]:
        """Every attempt at every sum."""
        return [SumRecord(path) for path in sorted((self.directory / "sums").glob("*")) if (path / "manifest").exists()]

    @property
    def published(self) -> SumRecord | None:
        """The last finished sum; None before the first. Raises JobError if a file is missing or damaged."""
        name = self.journal.last_sum
        if not name:
            return None
        record = SumRecord(self.directory / "sums" / name)
        if record.transcript is None:
            raise JobError(f"{record.folder}: the last sum's files are damaged; start the plan again in a new directory")
        return record

    def is_signed(self, planned: PlannedSum, members: tuple[str, ...]) -> bool:
        """Whether a signature of anybody over these members is kept, of whatever attempt at the sum."""
        attempts = [one for one in self.records if (one.manifest.round, one.manifest.sum) == (planned.round, planned.kind)]
        proposed = [one for one in attempts if one.proposal is not None and one.proposal.members == members]
        return any(one.answers("survivors") for one in proposed)

    def drop_uploads(self, before: int) -> None:
        """Removes the uploads of rounds before this one, and of attempts that came to nothing."""
        for record in self.records:
            transcript = record.transcript
            if transcript is None or transcript.manifest.round < before:
                record.drop_uploads()

    def scratch(self) -> Scratch:
        """For the large arrays of one sum."""
        return Scratch(self.directory)

    @property
    def outbox(self) -> Outbox:
        return Outbox(self.directory / "requests")

    def blame(self, parties: Parties) -> Blame:
        """Proofs against institutions of the run."""
        return Blame(self.directory / "proofs", parties)

    def epoch_path(self, number: int) -> Path:
        return self.directory / "epochs" / f"{number:05}"
