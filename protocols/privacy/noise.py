"""Gaussian noise whose low-order bits do not tell what it was added to.

A normal number made from one or two uniforms takes few of the floating-point numbers near it, and which ones a sum `value + noise` can
take shows the value (Mironov 2012, "On significance of the least significant bits for differential privacy", and Jin et al. 2022 for
Gaussians). Here each number is the normalised sum of four independent ones (Holohan and Braghin 2021, "Secure random sampling in
differential privacy"), so that an attacker has to search the uniforms of four at once.

What remains: the guarantee is that of real-valued noise, approached in float64. Beyond the search there is no proof for floating-point
sums, and the last bits of a number are more often 0 than 1; a sum `value + noise` should be released as float32, whose steps are 2^29
times as coarse. What is drawn never exceeds 17.4 standard deviations, and each summand lacks a tail of mass 2^-53. The time taken is not
constant across processors, though no branch depends on a number drawn. Noise that is exact in integers is in `skellam`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.privacy.stream import Stream, uniforms

_SUMMANDS = 4  # its square root is exact
_TILE = 1 << 12  # pairs whose float64 scratch stays in the second-level cache


def gaussian(size: int, stream: Stream) -> NDArray[np.float64]:
    """Independent standard normal numbers, float64 [size]; 64 bytes are drawn for each pair of them."""
    numbers = np.empty((2, (size + 1) // 2))
    for start in range(0, numbers.shape[1], _TILE):
        tile = numbers[:, start : start + _TILE]
        tile[:] = _pairs(tile.shape[1], stream)
    return numbers.reshape(-1)[:size]


def _pairs(pairs: int, stream: Stream) -> NDArray[np.float64]:
    """Sums of Box and Muller's pairs (1958), float64 [2, pairs]; sine and cosine come from the tangent of half the angle."""
    radius = np.sqrt(-2.0 * np.log(uniforms(_SUMMANDS * pairs, stream)))
    tangent = np.tan(np.pi * (uniforms(_SUMMANDS * pairs, stream) - 0.5))
    square = tangent * tangent
    radius /= 1.0 + square
    cosines, sines = radius * (1.0 - square), radius * tangent
    shape = (_SUMMANDS, pairs)
    return np.stack([cosines.reshape(shape).sum(0) / 2.0, sines.reshape(shape).sum(0)])
