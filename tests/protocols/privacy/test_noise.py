"""Streams of bytes, and normal numbers from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from protocols.errors import PrivacyError
from protocols.keys import Purpose
from protocols.privacy.noise import gaussian
from protocols.privacy.stream import CryptographicStream, uniforms

SECRET = bytes(range(32))


@given(st.lists(st.integers(0, 100), max_size=8))
def test_a_stream_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    whole = CryptographicStream(SECRET, Purpose.NOISE, b"run")(sum(cuts))
    stream = CryptographicStream(SECRET, Purpose.NOISE, b"run")
    assert b"".join(stream(cut) for cut in cuts) == whole


def test_streams_differ_by_secret_purpose_and_context() -> None:
    streams = [
        CryptographicStream(SECRET, Purpose.NOISE, b"run"),
        CryptographicStream(bytes(32), Purpose.NOISE, b"run"),
        CryptographicStream(SECRET, Purpose.SAMPLING, b"run"),
        CryptographicStream(SECRET, Purpose.NOISE, b"ru", b"n"),
    ]
    assert len({stream(32) for stream in streams}) == len(streams)


def test_a_stream_without_a_whole_secret_is_refused() -> None:
    with pytest.raises(PrivacyError, match="16 bytes"):
        CryptographicStream(bytes(16), Purpose.NOISE)


def test_uniforms_are_never_zero_nor_above_one() -> None:
    assert uniforms(1, bytes)[0] == 2.0**-54
    assert uniforms(1, lambda n: b"\xff" * n)[0] == 1.0
    assert np.isfinite(gaussian(8, bytes)).all() and np.isfinite(gaussian(8, lambda n: b"\xff" * n)).all()


def test_numbers_are_normal_and_independent() -> None:
    numbers = gaussian(400_001, CryptographicStream(SECRET, Purpose.NOISE))
    assert numbers.shape == (400_001,) and numbers.dtype == np.float64
    assert stats.kstest(numbers, "norm").pvalue > 1e-3
    assert abs(stats.skew(numbers)) < 0.015 and abs(stats.kurtosis(numbers)) < 0.03
    for lag in (1, 2, 200_001 - 1, 200_001):
        assert abs(np.corrcoef(numbers[lag:], numbers[:-lag])[0, 1]) < 0.01
    assert stats.binomtest(int((np.abs(numbers) > 3).sum()), len(numbers), 2 * stats.norm.sf(3)).pvalue > 1e-3
