"""Lanes of every width come back as they were written, and nothing else is read as one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import EncodingError
from protocols.lanes import CHUNK_LANES, LANE_BITS, LaneFormat


@st.composite
def formats(draw: st.DrawFn) -> LaneFormat:
    size = draw(st.sampled_from((0, 1, 2, 3, 7, CHUNK_LANES - 1, CHUNK_LANES, CHUNK_LANES + 1, 2 * CHUNK_LANES + 5)))
    return LaneFormat(size, draw(st.integers(0, size)), draw(st.sampled_from(LANE_BITS)))


def drawn(lanes: LaneFormat, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 2**32, lanes.size, dtype=np.uint32)
    lanes.reduce(values)
    return values


@given(formats(), st.integers(0, 2**32))
def test_written_lanes_are_read_again(lanes: LaneFormat, seed: int) -> None:
    values, chunks = drawn(lanes, seed), []
    for number, chunk in enumerate(lanes.written(values)):
        assert len(chunk) == lanes.chunk_bytes(number)
        assert lanes.offset(number) == sum(map(lanes.chunk_bytes, range(number)))
        chunks.append(lanes.read(chunk, number))
    assert len(chunks) == lanes.chunks
    assert np.array_equal(np.concatenate(chunks), values)


@given(formats(), st.integers(0, 2**32))
def test_reducing_parts_is_reducing_the_whole(lanes: LaneFormat, cut: int) -> None:
    values = np.random.default_rng(cut).integers(0, 2**32, lanes.size, dtype=np.uint32)
    whole, cut = values.copy(), cut % (lanes.size + 1)
    lanes.reduce(whole)
    lanes.reduce(values[:cut], 0)
    lanes.reduce(values[cut:], cut)
    assert np.array_equal(values, whole)
    assert (whole[lanes.wide :] < 2**lanes.bits).all()


@pytest.mark.parametrize(("bits", "size"), [(32, 4_000_000), (24, 3_000_000), (20, 2_500_000)])
def test_narrow_lanes_take_fewer_bytes(bits: int, size: int) -> None:
    assert LaneFormat(10**6, 0, bits).nbytes == size


def test_other_bytes_are_refused() -> None:
    lanes = LaneFormat(3, 0, 20)
    data = next(lanes.written(np.array([1, 2, 3], np.uint32)))
    for other in (data[:-1], data + b"\0", b"", data[:-1] + b"\xff"):
        with pytest.raises(EncodingError):
            lanes.read(other, 0)


@pytest.mark.parametrize("lanes", [LaneFormat(3, 4, 32), LaneFormat(3, 0, 16), LaneFormat(3, -1, 20)])
def test_other_formats_are_refused(lanes: LaneFormat) -> None:
    with pytest.raises(EncodingError):
        lanes.check()


def test_bits_of_no_lane_are_refused_in_any_chunk() -> None:
    lanes = LaneFormat(CHUNK_LANES + 3, 0, 20)
    *_, last = lanes.written(drawn(lanes))
    lanes.check_chunk(last, 1)
    for place, bit in ((-1, 1), (-2, 1), (-3, 16)):
        altered = bytearray(last)
        altered[place] |= bit
        with pytest.raises(EncodingError, match="half byte after the last lane of chunk 1"):
            lanes.check_chunk(bytes(altered), 1)
