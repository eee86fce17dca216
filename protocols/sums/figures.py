"""What a sum says about the consortium as a whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figures:
    """None where a sum does not say it."""

    loss: float | None = None  # mean over training examples
    numerator: float | None = None
    denominator: int | None = None
    metric: float | None = None
