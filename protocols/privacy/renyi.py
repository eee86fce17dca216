"""Renyi differential privacy at the integer orders 2 to 512: curves that add up, and the epsilon they imply (Mironov 2017)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]  # [511], the bound on the divergence at each of ORDERS
ORDERS = np.arange(2.0, 513.0)
NOTHING: Curve = np.zeros_like(ORDERS)


def gaussian(noise_multiplier: float) -> Curve:
    """Of Gaussian noise with that many times the sensitivity as standard deviation (Mironov 2017, Proposition 7)."""
    return ORDERS / (2.0 * noise_multiplier**2)


def skellam(variance: float, l2: float, l1: float) -> Curve:
    """Of Skellam noise on integer vectors (Agarwal, Kairouz and Liu 2021, Theorem 3.5, proved for integer orders).

    Parameters
    ----------
    variance
        Of the noise on each coordinate, in squared integer units.
    l2, l1
        The most by which one unit changes the vector, in integer units.
    """
    leading = ORDERS * l2**2 / (2.0 * variance)
    second = ((2.0 * ORDERS - 1.0) * l2**2 + 6.0 * l1) / (4.0 * variance**2)
    return leading + np.minimum(second, 3.0 * l1 / (2.0 * variance))


def poisson_sampled(curve: Curve, rate: float) -> Curve:
    """The curve when each unit takes part with probability `rate` only, under the adjacency that adds or removes one unit.

    The binomial expansion of Mironov, Talwar and Zhang 2019 ("Renyi differential privacy of the sampled Gaussian mechanism", section 3.3),
    without the factor of 3 in the general Theorem 5 of Zhu and Wang 2019: that the removal of a unit is the worse direction follows, by
    their Theorem 5, from the reflection which swaps the noise of two neighbours, and Skellam noise has it as Gaussian noise has.
    """
    if rate == 1.0:
        return curve
    order, k = ORDERS[:, None], ORDERS[None, :]
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1.0, ORDERS[-1] + 1.0)))])
    rest = np.maximum(order - k, 0.0)
    log_choose = log_factorial[2:, None] - log_factorial[None, 2:] - log_factorial[rest.astype(np.int64)]
    exponent = (k - 1.0) * curve
    # Binomial weights add up to one, so that exp - 1 leaves what exceeds one, without cancellation.
    terms = log_choose + k * math.log(rate) + rest * math.log1p(-rate) + exponent + np.log(-np.expm1(-exponent))
    excess = _log_sum(np.where(k <= order, terms, -np.inf))
    return np.asarray(np.logaddexp(0.0, excess) / (ORDERS - 1.0))


def to_epsilon(curve: Curve, delta: float) -> float:
    """The smallest epsilon that the curve implies at `delta` (Canonne, Kamath and Steinke 2020, Proposition 12)."""
    implied = curve + np.log1p(-1.0 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1.0)
    return max(float(implied.min()), 0.0)


def _log_sum(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """log sum exp over the last axis."""
    peak = terms.max(-1, keepdims=True)
    return np.asarray(np.log(np.exp(terms - peak).sum(-1)) + peak[:, 0])
