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


def attempt(name: str, read: Callable[[], Read], remedy: str = "") -> tuple[Read | None, Finding | None]:
    """What `read` gives, or the failure that it ended in; our errors say in their own sentence what to do."""
    try:
        return read(), None
    except (ConsortiumError, ModelError) as error:
        return None, failed(name, str(error), remedy)
    except OSError as error:
        return None, failed(name, f"{error.filename}: {error.strerror}", remedy or "check the path and its rights")
