"""A finding: whether one thing is as it should be, and what to do if it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from model.errors import ModelError
from protocols.errors import ConsortiumError

Outcome = Literal["ok", "warning", "failed", "skipped"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check of this name found; no sentence holds anything of a record."""

    name: str
    outcome: Outcome
    sentence: str
    remedy: str = ""

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{self.outcome:<8} {self.name}: {self.sentence}"
        if self.remedy:
            yield f"{'':<8} -> {self.remedy}"

    def document(self) -> dict[str, str]:
        """For `--json`."""
        return {"name": self.name, "outcome": self.outcome, "sentence": self.sentence, "remedy": self.remedy}


def ok(name: str, sentence: str) -> Finding:
    """Nothing is to be done."""
    return Finding(name, "ok", sentence)


def failed(name: str, sentence: str, remedy: str) -> Finding:
    """A run would fail."""
    return Finding(name, "failed", sentence, remedy)


def checked(name: str, read: Callable[[], Read], check: Callable[[Read], Finding]) -> Finding:
    """What `check` finds in what `read` gives; an error of ours becomes the finding, with its own sentence."""
    try:
        return check(read())
    except (ConsortiumError, ModelError) as error:
        sentence, _, remedy = str(error).partition("; ")
        return failed(name, sentence, remedy)
    except OSError as error:
        return failed(name, f"{error.filename}: {error.strerror}", "check the path and its rights")
