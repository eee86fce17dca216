import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from client.order import WINDOW, training_order


def batches(records: int, batch_size: int, first: int, count: int, seed: int = 0) -> list[list[int]]:
    lengths = [(7 * index) % 13 + 1 for index in range(records)]
    return [batch.tolist() for batch in training_order(lengths, seed, batch_size, first, count)]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 20))
def test_pieces_join_to_the_same_stream(records: int, batch_size: int, cut: int) -> None:
    assert batches(records, batch_size, 0, 21) == batches(records, batch_size, 0, cut) + batches(records, batch_size, cut, 21 - cut)


def test_windows_repeat_no_record_before_all_have_been_seen() -> None:
    """96 records are exactly two windows of 8 batches of 6."""
    seen = [index for batch in batches(96, 6, 0, 2 * WINDOW) for index in batch]
    assert sorted(seen) == list(range(96))


def test_batches_are_full_even_where_the_batch_is_larger_than_the_data() -> None:
    counts = np.bincount(np.concatenate([np.array(batch) for batch in batches(5, 8, 0, WINDOW)]), minlength=5)
    assert set(counts.tolist()) <= {12, 13}


def test_records_of_like_length_come_together() -> None:
    lengths = list(np.random.default_rng(0).integers(1, 200, 640))
    spread = [np.ptp([lengths[i] for i in batch]) for batch in training_order(lengths, 0, 16, 0, 40)]
    assert np.mean(spread) < 60


def test_seeds_give_different_orders() -> None:
    assert batches(50, 5, 0, 10, seed=1) != batches(50, 5, 0, 10, seed=2)
