"""Parts with few contributors: what is kept leaves two honest ones in whatever set the update is opened over."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.epoch.terms import threshold
from protocols.errors import PartsError
from protocols.parts import Survivors, check_update_set, is_kept, kept_parts, part_blocks
from protocols.state import PreRound

NAMES = tuple("abcdefghij")


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[Survivors, list[frozenset[str]]]:
    """A pre-round's set, and who touched each of a few parts."""
    colluding = draw(st.integers(0, 3))
    n = draw(st.integers(min_value=max(3, colluding + 3), max_value=8))
    t = threshold(n, colluding)
    if t > n or t - colluding < 2:
        n, colluding, t = 5, 1, 4
    members = NAMES[: draw(st.integers(t, n))]
    touched = draw(st.lists(st.frozensets(st.sampled_from(members)), min_size=1, max_size=4))
    return Survivors(members, t, colluding), touched


@given(cohorts())
def test_every_set_that_may_be_signed_leaves_every_kept_part_enough_contributors(drawn: tuple[Survivors, list[frozenset[str]]]) -> None:
    survivors, touched = drawn
    kept = kept_parts({1: {expert: len(of) for expert, of in enumerate(touched)}}, survivors)
    pre_round = PreRound(kept, survivors.members, survivors.threshold)
    for size in range(len(survivors.members) + 1):
        for members in combinations(survivors.members, size):
            if not _may_be_signed(pre_round, replace(survivors, members=members)):
                continue
            assert all(len(touched[expert] & set(members)) >= survivors.colluding + 2 for expert in kept[1])


def _may_be_signed(pre_round: PreRound, survivors: Survivors) -> bool:
    try:
        check_update_set(pre_round, survivors)
    except PartsError:
        return False
    return True


def test_count_is_compared_with_the_dropouts_that_may_follow() -> None:
    counts = {1: {0: 5, 3: 4, 7: 3}, 2: {1: 0}}
    assert kept_parts(counts, Survivors(NAMES[:5], 4, 1)) == {1: (0, 3), 2: ()}
    assert kept_parts(counts, Survivors(NAMES[:4], 4, 1)) == {1: (3, 7), 2: ()}, "5 of 4 institutions is no count"


def test_set_of_an_update_lies_within_the_pre_round_and_is_not_smaller_than_its_threshold() -> None:
    pre_round = PreRound({}, NAMES[:4], 3)
    check_update_set(pre_round, Survivors(NAMES[:3], 3, 1))
    check_update_set(None, Survivors(NAMES, 2, 1))
    with pytest.raises(PartsError, match="e was not in this round's pre-round"):
        check_update_set(pre_round, Survivors(NAMES[:5], 4, 1))
    with pytest.raises(PartsError, match="a set of 2 is smaller than the 3"):
        check_update_set(pre_round, Survivors(NAMES[:2], 3, 1))


@given(cohorts(), st.data())
def test_two_epochs_that_may_open_an_update_share_an_honest_signer(
    drawn: tuple[Survivors, list[frozenset[str]]], data: st.DataObject
) -> None:
    before = PreRound({}, drawn[0].members, drawn[0].threshold)
    terms = st.builds(Survivors, st.just(before.members), st.integers(1, len(before.members)), st.just(drawn[0].colluding))
    first, second = data.draw(terms), data.draw(terms)
    if _may_be_signed(before, first) and _may_be_signed(before, second):
        assert first.threshold + second.threshold - len(before.members) > drawn[0].colluding


def test_epoch_in_which_fewer_open_a_sum_than_in_one_of_the_pre_round_opens_no_update() -> None:
    pre_round = PreRound({}, NAMES[:6], 4)
    check_update_set(pre_round, Survivors(NAMES[:4], 4, 1))
    with pytest.raises(PartsError, match="in which 3 institutions open a sum .* pre-round of 6; it needs a threshold of 4"):
        check_update_set(pre_round, Survivors(NAMES[:4], 3, 1))


def test_shared_tensors_and_rounds_without_pre_round_keep_everything() -> None:
    pre_round = PreRound({1: (2,)}, NAMES[:4], 3)
    assert is_kept(pre_round, None) and is_kept(None, (1, 5)) and is_kept(pre_round, (1, 2))
    assert not is_kept(pre_round, (1, 5)) and not is_kept(pre_round, (3, 2))


def test_lanes_are_one_integer_for_each_expert() -> None:
    blocks = part_blocks({3: (0, 2), 1: (5,)})
    assert [(block.name, block.shape, block.bound, block.integer) for block in blocks] == [
        ("touched.1", (1,), 1.0, True),
        ("touched.3", (2,), 1.0, True),
    ]
