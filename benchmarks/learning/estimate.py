"""How long a row will take, by the finished ones of its set."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from benchmarks.learning.rows import Figures, Row
from benchmarks.learning.variants import BASELINES

GUESS_SECONDS = 180.0  # of a row, before one of its set is known
BASELINE_ROWS = 2.5  # the baselines take as long as so many rows


class Estimate:
    """Mean seconds of what is known."""

    def __init__(self, known: Sequence[Figures]) -> None:
        self._known = known

    def seconds(self, row: Row) -> float:
        baselines, rows = self._mean(row.data, baselines=True), self._mean(row.data, baselines=False) or GUESS_SECONDS
        return (baselines or BASELINE_ROWS * rows) if row.variant == BASELINES else rows

    def _mean(self, data: str, *, baselines: bool) -> float | None:
        alike = [float(one["process_seconds"]) for one in self._known if one["set"] == data and (one["variant"] == BASELINES) == baselines]
        return fmean(alike) if alike else None
