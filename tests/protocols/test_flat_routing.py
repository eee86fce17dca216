"""How unevenly experts are used, and that a flat use chooses none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import FlatRoutingError
from protocols.plan import Trainable
from protocols.selection import LEAST_UNEVENNESS, check_not_flat, unevenness
from protocols.sums import experts

SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=9).filter(lambda shares: sum(shares) > 1e-3).map(np.array)


def test_it_is_the_share_that_would_have_to_move_for_equal_use() -> None:
    assert unevenness({1: np.array([4.0, 2.0, 1.0, 1.0])}) == 0.25
    assert unevenness({1: np.array([4.0, 2.0, 1.0, 1.0]), 2: np.ones(8), 3: np.zeros(8)}) == pytest.approx(0.25 / 3)
    assert unevenness({1: np.array([0.0, 0.0, 0.0, 7.0])}) == 0.75


@given(SHARES, st.floats(0.01, 100))
def test_neither_order_nor_scale_matters_and_mixing_with_equal_use_flattens(shares: np.ndarray, scale: float) -> None:
    found = unevenness({1: shares})
    assert 0 <= found <= 1 - 1 / len(shares) + 1e-12
    assert unevenness({1: scale * np.sort(shares)}) == pytest.approx(found, abs=1e-12)
    assert unevenness({1: shares / shares.sum() + 1 / len(shares)}) == pytest.approx(found / 2, abs=1e-12)


def test_a_sum_that_is_too_flat_chooses_none_and_says_what_to_do() -> None:
    trainable, equal, rising = Trainable(experts="esft-token"), np.full(8, 1 / 8), np.arange(-3.5, 4) / 100
    total = {experts.lane(1): equal, experts.lane(2): equal + 0.25 * rising}
    with pytest.raises(FlatRoutingError, match='1.0% of it would have to move.*needs 5%; set trainable.experts to "all" or "none"'):
        experts.chosen(total, {1: 8, 2: 8}, trainable)
    total[experts.lane(1)] = equal + 2 * rising
    assert experts.chosen(total, {1: 8, 2: 8}, trainable) == {1: (6, 7), 2: (6, 7)}
    check_not_flat({1: np.array([0.5 + LEAST_UNEVENNESS, 0.5 - LEAST_UNEVENNESS])})
