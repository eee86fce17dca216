"""Who has answered the stage under way, who is waited for, and until when: one small file in a run's folder while it lasts."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from coordinator.events import Event, InstitutionAnswered, StageBegun
from protocols.files import write_file

_NAME = "stage.json"


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage as far as it has come."""

    round: int
    kind: str  # of the sum, or "epoch"
    attempt: int  # at the sum; of an epoch its number
    stage: str
    answered: tuple[str, ...]
    waiting: tuple[str, ...]
    missing: dict[str, str]  # who is waited for no longer, and why
    until: str  # ISO 8601, UTC

    def after(self, answer: InstitutionAnswered) -> Stage:
        """With one institution fewer to wait for."""
        name = answer.institution
        waiting = tuple(other for other in self.waiting if other != name)
        if answer.reason:
            return replace(self, waiting=waiting, missing={**self.missing, name: answer.reason})
        return replace(self, waiting=waiting, answered=tuple(sorted({*self.answered, name})))

    @property
    def line(self) -> str:
        """In words, for people."""
        about = f"epoch {self.attempt}" if self.kind == "epoch" else f"round {self.round}, {self.kind} sum{attempted(self.attempt)}"
        answered = f"{', '.join(self.answered)} answered {self.stage}" if self.answered else f"nobody has answered {self.stage} yet"
        missing = "".join(f"; {name} does not: {reason}" for name, reason in sorted(self.missing.items()))
        waiting = f"waiting for {', '.join(self.waiting)} until {self.until[11:19]} UTC, then without them if enough are left"
        return f"{about}: {answered}; {waiting}{missing}"


def attempted(attempt: int) -> str:
    """What follows a sum's name: the attempt, where the first one was in vain. 0 is a stage about the sum whatever the attempt."""
    return f", attempt {attempt}" if attempt > 1 else ""


class StageRecord:
    """Told of a run's events one after the other; a full disk costs the record and nothing else."""

    def __init__(self, folder: Path, clock: Callable[[], datetime]) -> None:
        """`clock` tells the time in UTC."""
        self._path = folder / _NAME
        self._clock = clock
        self._stage: Stage | None = None

    def note(self, event: Event) -> None:
        """Any event but the two about a stage under way ends it."""
        if isinstance(event, StageBegun):
            until = (self._clock() + timedelta(seconds=event.seconds)).isoformat(timespec="seconds")
            self._stage = Stage(event.round, event.kind, event.attempt, event.stage, (), event.institutions, {}, until)
        else:
            self._stage = self._stage.after(event) if self._stage and isinstance(event, InstitutionAnswered) else None
        with suppress(OSError):
            if self._stage is None:
                self._path.unlink(missing_ok=True)
            else:
                write_file(self._path, json.dumps(asdict(self._stage)).encode())


def read_stage(folder: Path) -> Stage | None:
    """The stage that waits for somebody; None where none does, or nobody here may read it."""
    try:
        fields = json.loads((folder / _NAME).read_bytes())
        stage = Stage(**fields | {"answered": tuple(fields["answered"]), "waiting": tuple(fields["waiting"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return stage if stage.waiting else None
