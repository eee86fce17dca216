"""Poisson sampling: each unit takes part in a step by a coin of its own, as the accounting assumes; no shuffling stands in for it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from protocols.errors import PrivacyError
from protocols.privacy.stream import UNIFORM_BITS, Stream, integers

_TILE = 1 << 16


def draw(units: int, rate: float, stream: Stream) -> NDArray[np.int64]:
    """Sorted indices, int64, of the units that a step takes; none or all of them may be.

    Each is taken independently with probability floor(rate 2^53) / 2^53, which is never above `rate`.

    Raises
    ------
    PrivacyError
        The rate is not within [0, 1].
    """
    if not 0.0 <= rate <= 1.0:
        raise PrivacyError(f"a sampling rate of {rate} is not a probability; set it between 0 and 1")
    below = np.uint64(math.floor(rate * 2.0**UNIFORM_BITS))
    taken = [start + np.flatnonzero(integers(min(_TILE, units - start), stream) < below) for start in range(0, units, _TILE)]
    return np.concatenate([np.empty(0, np.int64), *taken])
