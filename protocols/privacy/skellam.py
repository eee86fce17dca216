"""Skellam noise: integers, closed under sums, so that institutions add shares of it to what a secure sum carries.

The Skellam mechanism is that of Agarwal, Kairouz and Liu 2021 ("The Skellam mechanism for differentially private federated learning").
A Skellam variable of variance v is the difference of two Poisson variables of mean v / 2. Means from 10 on are drawn by Hoermann's
transformed rejection PTRS (1993, "The transformed rejection method for generating Poisson random variables"), smaller ones by inversion.

The laws are exact for exact uniforms and real arithmetic. With 53 bits, a probability is off by about 1e-16 times the standard deviation,
relatively. How many numbers are rejected, and so the time taken, depends on the noise and never on what it is added to.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from protocols.errors import PrivacyError
from protocols.privacy.stream import UNIFORM_BITS, Stream, integers, uniforms

LARGEST_VARIANCE = 2.0**48
_SMALL_MEAN = 10.0  # PTRS is proved from here on
_TILE = 1 << 14
_FEW = 16  # events below which the logarithm of the factorial is looked up
_LOG_FACTORIALS = np.array([math.lgamma(k + 1.0) for k in range(_FEW)])


def skellam(size: int, variance: float, stream: Stream) -> NDArray[np.int64]:
    """Independent Skellam integers of mean 0, int64 [size].

    Raises
    ------
    PrivacyError
        The variance is not above 0 and at most 2^48.
    """
    if not 0.0 < variance <= LARGEST_VARIANCE:
        raise PrivacyError(f"Skellam noise of variance {variance} cannot be drawn; set it above 0 and at most 2^48")
    return poisson(size, variance / 2.0, stream) - poisson(size, variance / 2.0, stream)


def poisson(size: int, mean: float, stream: Stream) -> NDArray[np.int64]:
    """Independent Poisson integers, int64 [size], of a positive mean."""
    by = _by_inversion if mean < _SMALL_MEAN else _by_rejection
    tiles = [by(min(_TILE, size - start), mean, stream) for start in range(0, size, _TILE)]
    return np.concatenate([np.empty(0, np.int64), *tiles])


def _by_inversion(size: int, mean: float, stream: Stream) -> NDArray[np.int64]:
    counts = np.arange(64.0)  # a mean below 10 has less than 2^-53 beyond
    at_most = np.cumsum(np.exp(_log_mass(counts, mean)))
    at_most[-1] = 1.0
    drawn = integers(size, stream).astype(np.float64) * 2.0**-UNIFORM_BITS
    return np.searchsorted(at_most, drawn, side="right").astype(np.int64)


def _by_rejection(size: int, mean: float, stream: Stream) -> NDArray[np.int64]:
    numbers, open_places = np.empty(size, np.int64), np.arange(size)
    while len(open_places):
        candidates, accepted = _candidates(len(open_places), mean, stream)
        numbers[open_places[accepted]] = candidates[accepted]
        open_places = open_places[~accepted]
    return numbers


def _candidates(size: int, mean: float, stream: Stream) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """One trial of PTRS for each place: the candidates, and which are accepted; names are Hoermann's."""
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    inverse_alpha, v_r = 1.1239 + 1.1328 / (b - 3.4), 0.9277 - 3.6224 / (b - 2.0)
    u, v = uniforms(size, stream) - 0.5, uniforms(size, stream)
    u_s = np.maximum(0.5 - np.abs(u), 2.0 ** -(UNIFORM_BITS + 1))
    k = np.floor((2.0 * a / u_s + b) * u + mean + 0.43)
    accepted = (u_s >= 0.07) & (v <= v_r)
    looked_at = np.flatnonzero(~accepted & (k >= 0.0) & ~((u_s < 0.013) & (v > u_s)))
    hat = np.log(v[looked_at] * inverse_alpha / (a / u_s[looked_at] ** 2 + b))
    accepted[looked_at] = hat <= _log_mass(k[looked_at], mean)
    return k, accepted


def _log_mass(counts: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Logarithm of the Poisson mass; by Loader's saddle point (2000) where k log(mean) and log k! would cancel."""
    few = counts < _FEW
    masses = _saddle_point(np.where(few, _FEW, counts), mean)
    masses[few] = counts[few] * math.log(mean) - mean - _LOG_FACTORIALS[counts[few].astype(np.int64)]
    return masses


def _saddle_point(k: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    excess = (k - mean) / mean
    deviance = mean * ((1.0 + excess) * np.log1p(excess) - excess)
    stirling = 1.0 / (12.0 * k) - 1.0 / (360.0 * k**3) + 1.0 / (1260.0 * k**5) - 1.0 / (1680.0 * k**7)
    return -deviance - stirling - 0.5 * np.log(2.0 * np.pi * k)
