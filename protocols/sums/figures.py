"""What a sum says about the consortium as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Figures:
    """None where a sum does not say it."""

    loss: float | None = None  # mean over training examples
    numerator: float | None = None
    denominator: int | None = None
    metric: float | None = None
    more: Mapping[str, float] = field(default_factory=dict)  # by name; finite
