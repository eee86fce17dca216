"""What an audit found: sentences of what was proved, what is wrong, and what could not be known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ParamSpec

from protocols.errors import ConsortiumError

P = ParamSpec("P")


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

    def attempt(self, check: Callable[P, str], *subject: P.args, **options: P.kwargs) -> None:
        """Adds the sentence that `check` returns to the proofs, or that of its error to the failures."""
        try:
            self.proved.append(check(*subject, **options))
        except ConsortiumError as error:
            self.failed.append(str(error))

    def document(self) -> dict[str, object]:
        """For programs."""
        return {"ok": self.ok, "proved": self.proved, "failed": self.failed, "unproved": self.unproved}

    def lines(self) -> Iterator[str]:
        """For people: a title and its sentences, without titles that have none."""
        for title, sentences in (("Proved", self.proved), ("WRONG", self.failed), (f"Not proved by {self.subject}", self.unproved)):
            if sentences:
                yield f"{title}:"
            yield from (f"  - {sentence}" for sentence in sentences)
