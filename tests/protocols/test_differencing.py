"""Sets that may follow each other: whatever combination of their totals is made, two honest institutions stay in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.differencing import may_follow

NAMES = tuple("abcdefghijkl")


@given(st.data(), st.integers(0, 2))
def test_no_combination_of_sets_that_follow_each_other_is_of_few(data: st.DataObject, colluding: int) -> None:
    signed: list[frozenset[str]] = []
    pool: Sequence[str] = NAMES
    for _ in range(4):
        further = data.draw(st.frozensets(st.sampled_from(pool), min_size=min(colluding + 2, len(pool))))
        if len(further) >= colluding + 2 and may_follow(further, signed, colluding):
            signed.append(further)
            pool = sorted(further)
    factors = data.draw(st.lists(st.integers(-3, 3), min_size=len(signed), max_size=len(signed)))
    columns = np.array([[name in one for name in NAMES] for one in signed], int).reshape(-1, len(NAMES))
    left = np.count_nonzero(np.array(factors, int) @ columns)
    assert left == 0 or left >= colluding + 2


@pytest.mark.parametrize(
    ("further", "earlier", "follows"),
    [
        ("abc", [], True),
        ("abc", ["abcdef"], True),
        ("abcd", ["abcdef"], False),
        ("abg", ["abcdef"], False),
        ("abc", ["abcdefghi", "abcde"], False),
        ("ade", ["abc"], False),
    ],
)
def test_set_follows_where_it_is_inside_and_leaves_enough_out(further: str, earlier: list[str], follows: bool) -> None:
    assert may_follow(further, earlier, 1) is follows
