"""What is encoded, summed modulo 2^bits and decoded is the sum, at every width and for every number of institutions."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocols.encoding import TILE, Block, LaneLayout, decode, encode, largest_quantum, rescaled
from protocols.errors import EncodingError
from protocols.lanes import LANE_BITS

BLOCKS = (
    Block("delta", (2, 3), 0.5, False, narrow=True),
    Block("count", (1,), 1000.0, True),
    Block("last", (3,), 2.0, False, narrow=True),
    Block("weight", (1,), 1.0, False),
)
LAYOUT = LaneLayout(BLOCKS)
Real = NDArray[np.float64]


def summed(vectors: list[NDArray[np.uint32]], layout: LaneLayout) -> NDArray[np.uint32]:
    total: NDArray[np.uint32] = np.sum(vectors, 0, dtype=np.uint32)
    layout.format.reduce(total)
    return total


def drawn(rng: np.random.Generator) -> dict[str, Real]:
    """Values of every block; each is at its bound now and then."""
    values = {block.name: block.bound * np.clip(rng.uniform(-1.2, 1.2, block.shape), -1, 1) for block in BLOCKS}
    return values | {"count": np.rint(values["count"])}


@pytest.mark.parametrize("bits", LANE_BITS)
@settings(max_examples=30)
@given(st.integers(1, 250), st.integers(0, 2**32 - 1))
def test_decoded_sums_are_within_a_step_per_institution(bits: int, n: int, seed: int) -> None:
    rng, layout = np.random.default_rng(seed), LaneLayout(BLOCKS, bits)
    inputs = [drawn(rng) for _ in range(n)]
    decoded = decode(summed([encode(values, layout, n, rng) for values in inputs], layout), layout, n)
    for block in BLOCKS:
        step = 1e-9 if block.integer else block.bound / largest_quantum(n, layout.bits_of(block))
        assert np.abs(decoded[block.name] - sum(values[block.name] for values in inputs)).max() <= n * step * (1 + 1e-9)


@pytest.mark.parametrize("bits", LANE_BITS)
@settings(max_examples=30)
@given(st.integers(1, 250), st.integers(1, 250), st.integers(0, 2**32 - 1))
def test_a_vector_for_another_cohort_says_the_same_within_a_step_of_each(bits: int, n: int, other: int, seed: int) -> None:
    rng, layout = np.random.default_rng(seed), LaneLayout(BLOCKS, bits)
    values = drawn(rng)
    vector = rescaled(encode(values, layout, n, rng), layout, n, other)
    assert (vector == rescaled(vector, layout, other, other)).all()
    decoded = decode(vector, layout, other)
    for block in BLOCKS:
        steps = [0.0 if block.integer else block.bound / largest_quantum(size, layout.bits_of(block)) for size in (n, other)]
        assert np.abs(decoded[block.name] - values[block.name]).max() <= sum(steps) * (1 + 1e-9)
        assert np.abs(decoded[block.name]).max() <= block.bound * (1 + 1e-9)


@pytest.mark.parametrize("bits", LANE_BITS)
@settings(max_examples=30)
@given(st.integers(1, 250), st.integers(0, 2**32 - 1))
def test_lane_carry(bits: int, n: int, seed: int) -> None:
    """All institutions at the bound, lane by lane with either sign: no sum overflows or reaches the lane beside it, also when packed."""
    rng, layout = np.random.default_rng(seed), LaneLayout(BLOCKS, bits)
    signs = {block.name: rng.choice([-1.0, 1.0], block.shape) for block in BLOCKS}
    one = encode({block.name: block.bound * signs[block.name] for block in BLOCKS}, layout, n, rng)
    total = summed([one] * n, layout)
    written = [layout.format.read(chunk, number) for number, chunk in enumerate(layout.format.written(total))]
    decoded = decode(np.concatenate(written), layout, n)
    for block in BLOCKS:
        assert np.allclose(decoded[block.name], n * block.bound * signs[block.name], rtol=1 / largest_quantum(n, bits))


@pytest.mark.parametrize("bits", LANE_BITS)
@pytest.mark.parametrize("n", [1, 2, 3, 8, 9, 250])
def test_the_sum_of_extremes_leaves_a_bit_free(bits: int, n: int) -> None:
    assert 1 <= n * largest_quantum(n, bits) < 2 ** (bits - 2)


def test_the_decoded_sum_has_a_relative_error_below_a_millionth() -> None:
    rng, layout = np.random.default_rng(0), LaneLayout((Block("delta", (50_000,), 0.1, False, narrow=True),))
    inputs = [np.clip(rng.normal(0, 0.02, 50_000), -0.1, 0.1).astype(np.float32) for _ in range(8)]
    decoded = decode(summed([encode({"delta": values}, layout, 8, rng) for values in inputs], layout), layout, 8)["delta"]
    exact = np.sum(inputs, 0, dtype=np.float64)
    assert np.abs(decoded - exact).max() < 1e-6 * np.abs(exact).max()


def test_lanes_of_32_bits_are_what_they_were() -> None:
    """Order, draws and rounding: nodes and coordinators of other versions compute the same bits."""
    layout = LaneLayout((Block("late", (2 * TILE + 77,), 2.5, False, narrow=True), *BLOCKS))
    values = drawn(np.random.default_rng(1)) | {"late": np.random.default_rng(2).uniform(-2.5, 2.5, 2 * TILE + 77)}
    vector = encode(values, layout, 7, np.random.default_rng(3))
    assert hashlib.sha256(vector.astype("<u4").tobytes()).hexdigest() == "ec864516126e4890970e64ac59e36cb3285b12a477fac62346f0498252c4a3c6"


def test_float32_is_encoded_as_the_same_numbers_in_float64() -> None:
    values = {name: lane.astype(np.float32) for name, lane in drawn(np.random.default_rng(4)).items()}
    as_float64 = {name: lane.astype(np.float64) for name, lane in values.items()}
    one, other = (encode(given, LAYOUT, 5, np.random.default_rng(6)) for given in (values, as_float64))
    assert np.array_equal(one, other)


def test_blocks_of_32_bits_come_first_where_others_are_narrow() -> None:
    assert [block.name for block, _ in LaneLayout(BLOCKS, 20).spans()] == ["count", "weight", "delta", "last"]
    assert [block.name for block, _ in LAYOUT.spans()] == [block.name for block in BLOCKS]
    assert (LaneLayout(BLOCKS, 20).format.wide, LAYOUT.format.wide) == (2, LAYOUT.size)
    assert list(decode(np.zeros(11, np.uint32), LaneLayout(BLOCKS, 20), 3)) == [block.name for block in BLOCKS]


def test_the_hash_covers_bits_and_which_blocks_have_them() -> None:
    exact = (BLOCKS[0], BLOCKS[1], Block("last", (3,), 2.0, False), BLOCKS[3])
    assert len({LaneLayout(BLOCKS, bits).hash for bits in LANE_BITS} | {LaneLayout(exact, 20).hash}) == 4


def test_rounding_is_unbiased() -> None:
    layout = LaneLayout((Block("x", (20000,), float(largest_quantum(1)), False),))
    lanes = encode({"x": np.full(20000, 0.25)}, layout, 1, np.random.default_rng(0))
    assert abs(lanes.view(np.int32).mean() - 0.25) < 0.02


@pytest.mark.parametrize(
    "change",
    [
        {"delta": np.zeros((3, 2))},
        {"delta": np.full((2, 3), np.nan)},
        {"delta": np.full((2, 3), -np.inf)},
        {"delta": np.full((2, 3), 0.6)},
        {"delta": np.full((2, 3), -0.6)},
        {"count": np.array([0.5])},
    ],
)
def test_what_does_not_fit_its_lanes_is_refused(change: dict[str, Real]) -> None:
    values = {block.name: np.zeros(block.shape) for block in BLOCKS} | change
    with pytest.raises(EncodingError):
        encode(values, LAYOUT, 4, np.random.default_rng(0))


@pytest.mark.parametrize("total", [np.zeros(10, np.uint32), np.zeros(11, np.int32)])
def test_a_total_of_another_layout_is_refused(total: NDArray[np.uint32]) -> None:
    with pytest.raises(EncodingError, match="does not fit"):
        decode(total, LAYOUT, 3)
