"""What an audit found: sentences of what was proved, what is wrong, and what could not be known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from protocols.errors import ConsortiumError

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class Audit:
    """Sentences for people; `failed` is empty when all that was looked at is as it was written."""

    subject: str  # what was looked at: "this registry"
    proved: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    unproved: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.failed

    @property
    def verdict(self) -> str:
        """The last sentence for people."""
        if self.failed:
            return f"{counted(len(self.failed), 'thing is', 'things are')} wrong."
        unknown = f"; {counted(len(self.unproved), 'thing is', 'things are')} not proved" if self.unproved else ""
        return f"Nothing wrong found{unknown}."

    def attempt(self, check: Callable[P, str], *subject: P.args, **options: P.kwargs) -> None:
        """Adds the sentence that `check` returns to the proofs unless it is empty, or that of its error to the failures."""
        sentence = self.read(check, *subject, **options)
        if sentence:
            self.proved.append(sentence)

    def read(self, source: Callable[P, T], *subject: P.args, **options: P.kwargs) -> T | None:
        """What `source` returns, or None after its error was added to the failures."""
        try:
            return source(*subject, **options)
        except ConsortiumError as error:
            self.failed.append(str(error))
        except OSError as error:
            self.failed.append(f"{error.filename}: {error.strerror}; check its rights, or restore it from a backup")
        return None

    def document(self) -> dict[str, object]:
        """For programs."""
        return {"ok": self.ok, "proved": self.proved, "failed": self.failed, "unproved": self.unproved}

    def lines(self) -> Iterator[str]:
        """For people: a title and its sentences, without titles that have none."""
        for title, sentences in (("Proved", self.proved), ("WRONG", self.failed), (f"Not proved by {self.subject}", self.unproved)):
            if sentences:
                yield f"{title}:"
            yield from (f"  - {sentence}" for sentence in sentences)


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: "1 round", "2 rounds"; `many` is for what takes no s."""
    return f"{number} {one if number == 1 else many or one + 's'}"
