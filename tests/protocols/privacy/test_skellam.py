"""Skellam and Poisson integers against scipy's laws, small and large."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from protocols.errors import PrivacyError
from protocols.keys import Purpose
from protocols.privacy.skellam import poisson, skellam
from protocols.privacy.stream import CryptographicStream

SIZE = 200_000


def _stream(context: bytes = b"") -> CryptographicStream:
    return CryptographicStream(bytes(32), Purpose.NOISE, context)


def _p_value(numbers: NDArray[np.int64], law: stats.rv_discrete) -> float:
    """Chi-square over at most 60 cells of about equal mass, the tails beyond a thousandth being cells of their own."""
    middle, width = int(law.mean()), math.ceil(10 * law.std() + 10)
    grid = np.arange(middle - width, middle + width)
    at_most = np.cumsum(law.pmf(grid))
    cuts = np.unique(grid[np.searchsorted(at_most, [0.001, *np.linspace(0.02, 0.98, 58), 0.999])])
    mass = np.diff(np.concatenate([[0.0], at_most[cuts - grid[0]], [1.0]]))
    seen = np.bincount(np.searchsorted(cuts, numbers), minlength=len(mass))
    return float(stats.chisquare(seen[mass > 0], len(numbers) * mass[mass > 0]).pvalue)


@pytest.mark.parametrize("mean", [0.1, 3.0, 9.999, 10.0, 30.0, 1e3, 1e7])
def test_poisson_integers_follow_the_law(mean: float) -> None:
    numbers = poisson(SIZE, mean, _stream())
    assert numbers.dtype == np.int64 and numbers.min() >= 0
    assert _p_value(numbers, stats.poisson(mean)) > 1e-3


@pytest.mark.parametrize("variance", [0.5, 6.0, 25.0, 2e4])
def test_skellam_integers_follow_the_law_alone_and_in_sums(variance: float) -> None:
    law = stats.skellam(variance / 2, variance / 2)
    assert _p_value(skellam(SIZE, variance, _stream()), law) > 1e-3
    shares = sum(skellam(SIZE, variance / 4, _stream(bytes([share]))) for share in range(4))
    assert _p_value(np.asarray(shares), law) > 1e-3


def test_the_chi_square_would_notice_a_wrong_variance() -> None:
    assert _p_value(skellam(SIZE, 26.0, _stream()), stats.skellam(12.5, 12.5)) < 1e-3


def test_large_variances_are_normal() -> None:
    numbers = skellam(SIZE, 2.0**44, _stream()) / 2.0**22
    assert stats.kstest(numbers, "norm").pvalue > 1e-3


@pytest.mark.parametrize("variance", [0.0, -1.0, float("nan"), 2.0**49])
def test_a_variance_out_of_range_is_refused(variance: float) -> None:
    with pytest.raises(PrivacyError, match="Skellam"):
        skellam(1, variance, _stream())
