"""Fixed batches: who trains when follows from the roster's names alone, and sets differ by a whole batch or not at all."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.layout import AdapterTensor
from protocols.aggregation import rule_of
from protocols.aggregation.rebalance import is_due
from protocols.errors import ParticipationError
from protocols.participation import batch_of, check_members, members_of, too_small, turn_of
from protocols.plan import Plan
from protocols.schedule import planned_sums
from tests.protocols.test_rounds_rules import make_plan

NAMES = tuple("hgfedcba")
PAIR = (AdapterTensor("h.lora_A.weight", (2, 3), "lora_A"), AdapterTensor("h.lora_B.weight", (4, 2), "lora_B"))


def in_batches(batches: int, **tables: object) -> Plan:
    return make_plan(participation={"batches": batches}, **tables)


@given(st.sets(st.text("abc", max_size=4), min_size=1), st.integers(1, 5), st.integers(1, 40))
def test_each_institution_is_in_exactly_one_batch_of_about_the_same_size(names: set[str], batches: int, first: int) -> None:
    turn = [batch_of(names, batches, first + place) for place in range(batches)]
    assert sorted(name for batch in turn for name in batch) == sorted(names)
    assert {len(batch) for batch in turn} <= {len(names) // batches, -(-len(names) // batches)}
    assert batch_of(sorted(names, reverse=True), batches, first + batches) == turn[0], "the order of a roster decides nothing"


def test_training_is_of_a_batch_and_measuring_of_everybody() -> None:
    plan = in_batches(2, trainable={"experts": "all"})
    assert members_of(plan, NAMES, 1, "parts") == members_of(plan, NAMES, 3, "update") == ("a", "c", "e", "g")
    assert members_of(plan, NAMES, 2, "update-2") == ("b", "d", "f", "h")
    assert members_of(plan, NAMES, 1, "evaluate") == members_of(plan, NAMES, 0, "experts") == tuple("abcdefgh")
    assert members_of(in_batches(1), NAMES, 5, "update") == tuple("abcdefgh")


@pytest.mark.parametrize("batches", [1, 2, 3])
def test_sets_of_a_plan_are_equal_or_differ_in_a_whole_batch(batches: int) -> None:
    plan = in_batches(batches, rounds=7, trainable={"experts": "esft-token"})
    sets = [set(members_of(plan, NAMES, one.round, one.kind)) for one in planned_sums(plan)]
    smallest = len(NAMES) // batches
    assert all(one == other or len(one ^ other) >= smallest for one, other in combinations(sets, 2))


def test_member_outside_the_batch_is_refused_by_name_and_one_that_is_away_is_not() -> None:
    plan = in_batches(2)
    check_members(plan, NAMES, 1, "update", ("a", "c", "e"))
    check_members(plan, NAMES, 1, "evaluate", NAMES)
    with pytest.raises(ParticipationError, match="b, h is not in the batch of round 1, and its update sum is of that batch alone"):
        check_members(plan, NAMES, 1, "update", ("a", "b", "c", "h"))


def test_every_batch_trains_both_factors() -> None:
    def factor(plan: Plan, number: int) -> str:
        return rule_of(plan).trained(number, PAIR)[0].kind

    plan = in_batches(2)
    assert [factor(plan, number) for number in range(1, 9)] == ["lora_B", "lora_B", "lora_A", "lora_A"] * 2
    assert [factor(in_batches(1), number) for number in range(1, 5)] == ["lora_B", "lora_A"] * 2
    assert [turn_of(plan, number) for number in range(1, 6)] == [1, 1, 2, 2, 3] and turn_of(in_batches(1), 7) == 7


def test_rebalancing_follows_once_the_last_batch_has_trained_a() -> None:
    plan = in_batches(2, rounds=12, aggregation={"rebalance_every": 1})
    assert [one.round for one in planned_sums(plan) if is_due(plan, one)] == [4, 8, 12]


@pytest.mark.parametrize(
    ("institutions", "tables", "sentence"),
    [
        (8, {"participation": {"batches": 3}}, "of 8 institutions the smallest of 3 batches has 2 and a round needs 3"),
        (8, {"participation": {"batches": 2, "quorum": 5}}, "batches has 4 and a round needs 5"),
        (7, {"participation": {"batches": 2}, "secure_aggregation": {"colluding": 2}}, "has 3, too few for .*colluding = 2"),
    ],
)
def test_batches_that_carry_no_sum_are_refused_with_the_numbers(institutions: int, tables: dict[str, object], sentence: str) -> None:
    fault = too_small(make_plan(**tables), institutions)
    assert fault is not None
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(fault)


def test_batches_that_carry_their_sums_are_not() -> None:
    assert too_small(in_batches(2), 6) is None and too_small(in_batches(1), 2) is None
