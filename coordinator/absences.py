"""Who was missing from a run's sums, in which rounds, and why: as registry, commands and model card tell it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from coordinator.registry.records import Contribution, Round


@dataclass(frozen=True, slots=True)
class Absence:
    """One institution's absence, for one reason."""

    institution: str
    rounds: tuple[int, ...]
    reason: str


def absences(rounds: Iterable[Round]) -> tuple[Absence, ...]:
    """By institution, then in the order in which the reasons first appeared."""
    found: dict[tuple[str, str], list[int]] = {}
    for finished in rounds:
        for part in finished.contributions:
            if part.missing_from:
                found.setdefault((part.institution, reason_of(part)), []).append(finished.number)
    return tuple(Absence(name, tuple(numbers), reason) for (name, reason), numbers in sorted(found.items(), key=lambda one: one[0][0]))


def reason_of(part: Contribution) -> str:
    """The recorded sentence; of rows without one, from which stage on it was missing."""
    return part.reason or f"missing from {part.missing_from}"


def spans(numbers: Sequence[int]) -> str:
    """Ascending numbers as text, runs of them with a dash: 1, 3-5."""
    starts = [numbers[0], *(after for before, after in pairwise(numbers) if after != before + 1)]
    ends = [*(before for before, after in pairwise(numbers) if after != before + 1), numbers[-1]]
    return ", ".join(str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True))
