"""Rounding to integers at random without letting a clipped vector grow beyond a bound known in advance.

Conditional stochastic rounding of Kairouz, Liu and Steinke 2021 ("The distributed discrete Gaussian mechanism for federated learning with
secure aggregation", section 3.1 and Proposition 5): each coordinate goes up or down so that its mean is kept, and the whole vector is drawn
again until its norm is within the bound. One vector is one unit's: of the sum over several units only the sum's norm would be bounded.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from protocols.encoding import WIDE_BITS, largest_quantum
from protocols.errors import PrivacyError
from protocols.privacy.stream import Stream, uniforms

BETA = math.exp(-0.5)  # the authors' own
_ATTEMPTS = 1000  # at BETA all of them fail with probability 2^-721
_LARGEST_NORM = 2.0**31  # its square fits int64
_OVERFLOW_BITS = 64


def integer_bounds(clip_in_units: float, dimension: int, beta: float = BETA) -> tuple[float, float]:
    """The largest L2 and L1 norm of a rounded vector (Kairouz, Liu and Steinke 2021, equation 1).

    Parameters
    ----------
    clip_in_units
        L2 norm to which the vector was clipped, in grid steps.
    beta
        A draw is within the L2 bound with probability 1 - beta at least. Smaller values let the bound grow and the bias shrink.

    Raises
    ------
    PrivacyError
        The clip is not positive and finite, or beta not between 0 and 1.
    """
    if not (0.0 < clip_in_units < math.inf and 0.0 < beta < 1.0):
        raise PrivacyError(f"a clip of {clip_in_units} grid steps with beta {beta} bounds nothing; set a positive clip and beta below 1")
    root = math.sqrt(dimension)
    likely = clip_in_units**2 + dimension / 4.0 + math.sqrt(2.0 * math.log(1.0 / beta)) * (clip_in_units + root / 2.0)
    l2 = min(clip_in_units + root, math.sqrt(likely))
    return l2, l2 * min(root, l2)


def round_conditionally(vector: NDArray[np.float64], bound_l2: float, stream: Stream) -> NDArray[np.int64]:
    """Integers, int64 [d], whose L2 norm is at most `bound_l2`, from a vector in grid steps, float64 [d].

    Raises
    ------
    PrivacyError
        The vector is longer than the bound allows or not finite, or the bound is 2^31 or more; nothing of the vector is told.
    """
    longest = float(np.linalg.norm(vector)) + math.sqrt(vector.size)
    if not (bound_l2 < _LARGEST_NORM and longest < _LARGEST_NORM):
        raise PrivacyError("a vector to be rounded is not finite, or it or its bound is as long as 2^31 grid steps; choose a coarser grid")
    for _ in range(_ATTEMPTS):
        rounded = np.floor(vector + uniforms(vector.size, stream)).astype(np.int64)
        if int(rounded @ rounded) <= bound_l2**2:
            return rounded
    raise PrivacyError("a vector cannot be rounded within its bound; clip it to the norm that the bound was computed for")


def scale_for(
    clip: float, dimension: int, units: int, noise_multiplier: float, shares: int, institutions: int, steps: int,
    beta: float = BETA, bits: int = WIDE_BITS,
) -> float:  # fmt: skip
    """The finest grid, in steps per 1 and a power of two, whose lanes do not overflow in a whole run but with probability 2^-64.

    One institution's lane holds at most `units` vectors, each with its whole norm l2 in that coordinate, and a Skellam share of variance
    v = (noise_multiplier l2)^2 / shares. On either side, such noise exceeds sqrt(2 v L) + L / 3 with probability exp(-L) at most
    (Bernstein's bound, as cosh x - 1 <= e^x - 1 - x; Boucheron, Lugosi and Massart 2013, section 2.4). With L = log(2 * dimension *
    institutions * steps) + 64 log 2, no share of the run does, but with probability 2^-64. What is left of the lane is the secure sum's
    headroom: `encoding.largest_quantum`.

    Parameters
    ----------
    clip
        L2 norm of one unit's vector, in its own measure.
    units
        The most that one institution adds up in one step; the caller refuses a step with more.
    shares
        Institutions whose noise counts: of the smallest set that a sum may have, those that do not collude.

    Raises
    ------
    PrivacyError
        The clip is not positive and finite, or not even a grid as coarse as the clip fits.
    """
    if not 0.0 < clip < math.inf:
        raise PrivacyError(f"a clip of {clip} bounds nothing; set it above 0")
    room = largest_quantum(institutions, bits)
    tail = math.log(2.0 * dimension * institutions * steps) + _OVERFLOW_BITS * math.log(2.0)
    finest = math.floor(math.log2(room / clip))
    coarsest = math.ceil(-math.log2(clip))
    for exponent in range(finest, coarsest - 1, -1):
        scale = 2.0**exponent
        l2, _ = integer_bounds(clip * scale, dimension, beta)
        share = noise_multiplier * l2 / math.sqrt(shares)
        if units * l2 + share * math.sqrt(2.0 * tail) + tail / 3.0 <= room:
            return scale
    raise PrivacyError(
        f"lanes of {bits} bits do not hold {units} units with their noise at {institutions} institutions; take wider lanes or fewer units"
    )
