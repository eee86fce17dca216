"""The learning rate over the steps: a linear warm-up, then a cosine."""

from __future__ import annotations

import math
from collections.abc import Callable

_FLOOR = 0.02  # it ends at this share of its peak


def warmup_cosine(peak: float, warmup_steps: int, steps: int) -> Callable[[int], float]:
    """The rate of a step, counted from 1."""

    def rate(step: int) -> float:
        decay = 0.5 * (1 + math.cos(math.pi * step / steps))
        warm = min(1.0, step / max(warmup_steps, 1))
        return peak * warm * (_FLOOR + (1 - _FLOOR) * decay)

    return rate
