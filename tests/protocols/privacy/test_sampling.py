"""Each unit is drawn by a coin of its own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from protocols.errors import PrivacyError
from protocols.keys import Purpose
from protocols.privacy.sampling import draw
from protocols.privacy.stream import CryptographicStream


def _stream() -> CryptographicStream:
    return CryptographicStream(bytes(32), Purpose.SAMPLING)


def test_sizes_are_binomial_and_units_equally_likely() -> None:
    stream = _stream()
    drawn = [draw(200, 0.1, stream) for _ in range(3000)]
    sizes = np.array([len(one) for one in drawn])
    assert sizes.mean() == pytest.approx(20.0, abs=0.3) and sizes.var() == pytest.approx(18.0, abs=2.0)
    assert stats.chisquare(np.bincount(np.concatenate(drawn), minlength=200)).pvalue > 1e-3


def test_indices_are_sorted_and_cross_tiles() -> None:
    drawn = draw(200_000, 0.01, _stream())
    assert drawn.dtype == np.int64 and (np.diff(drawn) > 0).all() and drawn[-1] > 190_000
    assert stats.binomtest(len(drawn), 200_000, 0.01).pvalue > 1e-3


def test_the_ends_of_the_range_are_exact() -> None:
    assert draw(1000, 0.0, _stream()).size == 0
    assert draw(1000, 1.0, lambda n: b"\xff" * n).tolist() == list(range(1000))
    assert draw(2, 2.0**-53, bytes).tolist() == [0, 1] and draw(2, 2.0**-54, bytes).size == 0
    assert draw(0, 0.5, _stream()).size == 0
    for rate in (-0.1, 1.1, float("nan")):
        with pytest.raises(PrivacyError, match="sampling rate"):
            draw(10, rate, _stream())
