"""Rounded vectors keep their bound and, nearly, their mean; lanes hold what is added up in them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.encoding import largest_quantum
from protocols.errors import PrivacyError
from protocols.keys import Purpose
from protocols.privacy.rounding import BETA, integer_bounds, round_conditionally, scale_for
from protocols.privacy.skellam import skellam
from protocols.privacy.stream import CryptographicStream


def _stream() -> CryptographicStream:
    return CryptographicStream(bytes(32), Purpose.ROUNDING)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.floats(0.1, 1e6), st.floats(1e-6, 0.9), st.integers(0, 2**32))
def test_no_vector_grows_beyond_its_bounds(dimension: int, clip: float, beta: float, seed: int) -> None:
    vector = np.random.default_rng(seed).normal(size=dimension)
    vector *= clip / np.linalg.norm(vector)
    l2, l1 = integer_bounds(clip, dimension, beta)
    rounded = round_conditionally(vector, l2, _stream())
    assert rounded.dtype == np.int64 and (np.abs(rounded - vector) <= 1.0 + 1e-9).all()
    assert int(rounded @ rounded) <= l2**2 and np.abs(rounded).sum() <= l1 * (1 + 1e-12)


def test_the_mean_is_kept_but_for_the_condition() -> None:
    vector, stream = np.array([0.25, -1.75, 3.0, 0.5]), _stream()
    l2, _ = integer_bounds(float(np.linalg.norm(vector)), 4, 1e-9)
    draws = np.array([round_conditionally(vector, l2, stream) for _ in range(20_000)])
    assert np.abs(draws.mean(0) - vector).max() < 0.02
    assert set(draws[:, 1]) == {-2, -1} and set(draws[:, 2]) == {3}


def test_a_tight_bound_is_kept_by_drawing_again() -> None:
    vector = np.full(100, 0.5)
    stream, drawn = _stream(), list[int]()

    def counted(n_bytes: int) -> bytes:
        drawn.append(n_bytes)
        return stream(n_bytes)

    norms = [int(round_conditionally(vector, 7.0, counted).sum()) for _ in range(200)]
    assert max(norms) <= 49 and sum(drawn) > 200 * 800


def test_a_vector_that_cannot_be_rounded_is_refused_without_being_told() -> None:
    for vector in (np.full(4, 3.0), np.array([np.nan]), np.array([np.inf]), np.array([2.0**31])):
        with pytest.raises(PrivacyError) as refused:
            round_conditionally(vector, 4.0, _stream())
        assert "3.0" not in str(refused.value)
    for clip, beta in ((0.0, BETA), (1.0, 1.0), (1.0, 0.0), (math.nan, BETA)):
        with pytest.raises(PrivacyError):
            integer_bounds(clip, 4, beta)


@pytest.mark.parametrize(("clip", "units", "institutions", "noise"), [(1.0, 256, 10, 1.0), (0.01, 16, 3, 4.0), (50.0, 4000, 100, 0.7)])
def test_lanes_hold_the_worst_of_signals_and_the_noise(clip: float, units: int, institutions: int, noise: float) -> None:
    shares, dimension = max(institutions - 2, 1), 10_000
    scale = scale_for(clip, dimension, units, noise, shares, institutions, 1000)
    l2, _ = integer_bounds(clip * scale, dimension)
    drawn = skellam(dimension, (noise * l2) ** 2 / shares, _stream())
    room = largest_quantum(institutions)
    assert math.log2(scale).is_integer() and clip * scale >= 1
    assert units * l2 + np.abs(drawn).max() <= room
    tail = math.sqrt(2 * (65 * math.log(2) + math.log(dimension * institutions * 1000)))
    finer, _ = integer_bounds(2 * clip * scale, dimension)
    assert units * finer + tail * noise * finer / math.sqrt(shares) > 0.99 * room, "the grid is not twice as coarse as it need be"


def test_lanes_too_narrow_for_the_run_are_refused() -> None:
    with pytest.raises(PrivacyError, match="wider lanes"):
        scale_for(1.0, 10_000, 100_000, 1.0, 8, 10, 1000, bits=20)
    with pytest.raises(PrivacyError, match="clip"):
        scale_for(0.0, 10_000, 10, 1.0, 8, 10, 1000)
