"""Lanes in bins: what is counted in memory and what is counted in written chunks agree."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from client.rehearsal.histogram import BINS, Histograms, lane_counts, masked_counts
from protocols.lanes import CHUNK_LANES, LANE_BITS, LaneFormat


@given(st.sampled_from(LANE_BITS), st.integers(0, 3 * CHUNK_LANES), st.integers(0, CHUNK_LANES + 7), st.integers(0, 2**32))
def test_written_chunks_are_counted_as_the_vector(bits: int, size: int, wide: int, seed: int) -> None:
    lanes = LaneFormat(size, min(wide, size), bits)
    vector = np.random.default_rng(seed).integers(2**32, size=size, dtype=np.uint32)
    lanes.reduce(vector)
    counts = lane_counts(vector, lanes)
    assert sum(counts) == size
    assert tuple(masked_counts(b"".join(lanes.written(vector)), 0, lanes)) == counts


def test_small_numbers_of_both_signs_are_in_the_middle() -> None:
    for bits in LANE_BITS:
        vector = np.array([0, 5, 2**bits - 1, 2 ** (bits - 1), 2 ** (bits - 1) - 1], np.uint32)
        counts = lane_counts(vector, LaneFormat(5, 0, bits))
        assert (counts[BINS // 2], counts[BINS // 2 - 1], counts[0], counts[-1]) == (2, 1, 1, 1)


def test_bars_stand_beside_each_other() -> None:
    lines = Histograms((10,) * BINS, (0,) * 15 + (160,)).lines()
    assert len(lines) == BINS + 1 and all("10" in line for line in lines[1:]) and "160" in lines[-1]
    assert "does not see" not in Histograms((10,) * BINS, None).lines()[0]
