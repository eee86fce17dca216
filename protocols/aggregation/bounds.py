"""Norms with the same bits on every machine, rounded up: what bounds of lanes may be made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ONE = 1 << 31  # fixed point of squares; sums of them are exact in 64 bits, in whatever order they are taken


def largest_norm(values: NDArray[np.floating[Any]], axis: int | None = None) -> float:
    """At least the Euclidean norm of all elements, or the largest one along an axis; above it by at most 2^-15 of the largest element
    times the root of the number of elements."""
    exponent = math.frexp(float(np.abs(values).max(initial=0.0)))[1]
    scaled = np.ldexp(values.astype(np.float64), -exponent)
    squares = np.ceil(scaled * scaled * _ONE).astype(np.int64).sum(axis=axis)
    return math.ldexp(math.sqrt(int(np.max(squares, initial=0)) / _ONE), exponent)
