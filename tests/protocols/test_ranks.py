"""Nested ranks: what too few hold is not summed, what is summed is exact, and re-balancing puts the best slices first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.layout import AdapterTensor
from protocols.aggregation import Rule, ServerOptimizer, ServerStep, Weights
from protocols.aggregation.alternating import Alternating
from protocols.aggregation.fedsvd import FedSVD
from protocols.aggregation.ffa import FFA
from protocols.aggregation.rebalance import is_due, propose
from protocols.encoding import LaneLayout, decode, encode
from protocols.epoch import threshold
from protocols.errors import PlanError
from protocols.parts import Survivors, fewest_contributors
from protocols.ranks import held_slices, kept_experts, kept_rank, leading_slices, plan_ranks, rank_blocks, with_slices_of
from protocols.schedule import planned_sums
from protocols.state import PreRound, State, with_arrays
from protocols.sums import update
from tests.protocols.test_rounds_rules import make_plan

NAMES = tuple("abcdefghi")
A, B = AdapterTensor("h.lora_A.weight", (16, 24), "lora_A"), AdapterTensor("h.lora_B.weight", (20, 16), "lora_B")
FULL = AdapterTensor("e.weight", (3,), "full")
Factors = dict[str, NDArray[np.float32]]


def survivors_of(members: int, colluding: int = 1) -> Survivors:
    return Survivors(NAMES[:members], threshold(members, colluding), colluding)


def counts_of(ranks: Sequence[int], slices: int = 64) -> NDArray[np.float64]:
    return np.asarray(np.sum([held_slices(slices, rank) for rank in ranks], axis=0), np.float64)


def cut(ranks: Sequence[int], survivors: Survivors) -> int:
    """The (c + 2 + n - t)-th largest declared rank, as the specification has it."""
    place = fewest_contributors(survivors.colluding, survivors.threshold, len(ranks))
    return sorted(ranks, reverse=True)[place - 1] if place <= len(ranks) else 0


@given(st.lists(st.integers(1, 64), min_size=3, max_size=9), st.integers(0, 2), st.data())
def test_counts_of_slices_cut_where_the_declared_ranks_would(ranks: list[int], colluding: int, data: st.DataObject) -> None:
    survivors = Survivors(NAMES[: len(ranks)], data.draw(st.integers(1, len(ranks))), colluding)
    rank = kept_rank(counts_of(ranks), survivors)
    assert rank == cut(ranks, survivors)
    remaining = sorted(ranks)[: survivors.threshold]  # those of the largest ranks are gone
    assert rank == 0 or sum(held >= rank for held in remaining) >= colluding + 2


@pytest.mark.parametrize(
    ("ranks", "colluding", "kept"), [((64, 8, 8, 8), 1, 8), ((64, 32, 16, 8, 4), 1, 8), ((16, 16, 16), 1, 16), ((64, 8, 4), 1, 4)]
)
def test_no_top_rank_stands_alone(ranks: tuple[int, ...], colluding: int, kept: int) -> None:
    assert kept_rank(counts_of(ranks), survivors_of(len(ranks), colluding)) == kept


@pytest.mark.parametrize("counts", [(5, 4, 5), (6, 5, 5), (4, 4, 9)])
def test_counts_that_rise_or_are_above_the_members_keep_nothing(counts: tuple[int, ...]) -> None:
    assert kept_rank(np.array(counts, np.float64), survivors_of(5)) == 0


def test_expert_is_kept_where_enough_trained_each_of_its_slices() -> None:
    lanes = np.array([[5, 5, 4, 2], [5, 4, 3, 0], [5, 3, 3, 3], [4, 4, 5, 1]], np.float64)
    total = {"touched.1": lanes}
    assert kept_experts({1: (0, 2, 5, 7)}, total, 2, survivors_of(5)) == {1: (0, 2)}, "four are needed, and counts do not rise"
    assert kept_experts({1: (0, 2, 5, 7)}, total, 3, survivors_of(5)) == {1: (0,)}
    assert kept_experts({1: (0, 2, 5, 7)}, total, 0, survivors_of(5)) == {1: ()}


def test_plan_has_a_lane_for_each_slice_of_its_widest_pair() -> None:
    trainable = {"lora_rank": 4, "expert_rank": 8, "rank_pattern": {"lm_head": 6}}
    (block,) = rank_blocks(make_plan(trainable=trainable | {"ranks": "nested"}))
    assert (block.name, block.shape, block.bound, block.integer) == ("held_ranks", (8,), 1.0, True)
    assert rank_blocks(make_plan(trainable=trainable)) == ()
    assert plan_ranks(make_plan(trainable=trainable | {"experts": "none", "targets": ["embeddings"], "rank_pattern": {}})) == {}


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        ({"aggregation": {"rule": "sketched"}}, "take alternating, ffa, fedsvd or fedavg"),
        ({"training": {"scaffold": True}}, "does not go with training.scaffold"),
    ],
)
def test_nested_ranks_do_not_go_with_what_would_single_out_a_slice(tables: dict[str, object], sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        make_plan(trainable={"ranks": "nested"}, **tables)


@pytest.mark.parametrize(("rule", "round_number"), [(Alternating(), 1), (Alternating(), 2), (FFA(), 1), (FedSVD(), 3)])
def test_mean_of_products_is_the_product_with_the_mean_factor(rule: Rule, round_number: int) -> None:
    draw, layout, ranks = np.random.default_rng(0), (A, B, FULL), (16, 8, 8, 4)
    start = State("", 0, {t.name: draw.normal(size=t.shape).astype(np.float32) for t in layout})
    trained = rule.trained(round_number, layout)
    plan = make_plan(training={"learning_rate": 0.01})
    lanes = LaneLayout(update.blocks(plan.training, 0.01, trained, {}), 32)
    vectors, products = np.zeros(lanes.size, np.uint32), []
    for rank in ranks:
        delta = leading_slices({t.name: draw.normal(0, 0.1, t.shape).astype(np.float32) for t in trained}, trained, rank)
        values = rule.contribution(delta, Weights(1.0, {}), trained)
        said = {"weight": np.ones(1), "loss": np.zeros(1), "examples": np.zeros(1)}
        vectors += encode({**{update.delta_lane(n): v for n, v in values.items()}, **said}, lanes, len(ranks), np.random.default_rng(1))
        products.append(product({name: start.tensors[name] + delta.get(name, np.float32(0)) for name in start.tensors}))
    total = decode(vectors, lanes, len(ranks))
    after = rule.apply(start, update.deltas(total), Weights(4.0, {}), trained, ServerStep(ServerOptimizer()))
    mean = np.mean(products, axis=0)
    assert np.linalg.norm(product(dict(after.tensors)) - mean) < 1e-6 * np.linalg.norm(mean)


def product(factors: Factors) -> NDArray[np.float64]:
    return np.asarray(factors[B.name].astype(np.float64) @ factors[A.name].astype(np.float64))


def test_slices_that_are_left_out_stay_whatever_is_in_their_lanes() -> None:
    optimizer = ServerOptimizer.from_plan(make_plan(aggregation={"server_optimizer": "nesterov"}).aggregation, 1.0)
    before = State("", 0, {t.name: np.ones(t.shape, np.float32) for t in (A, B, FULL)}, pre_round=PreRound({}, NAMES[:4], 3, 4))
    total = {t.name: np.ones(t.shape) for t in (A, B, FULL)}
    after = FFA().apply(before, total, Weights(2.0, {}), (A, B, FULL), ServerStep(optimizer))
    cut_off = with_slices_of(before, after, (A, B, FULL))
    assert (cut_off.tensors[A.name][4:] == 1).all() and (cut_off.tensors[A.name][:4] == after.tensors[A.name][:4]).all()
    assert (cut_off.tensors[B.name][:, 4:] == 1).all() and (cut_off.tensors[B.name][:, :4] != 1).all()
    assert (cut_off.momentum[A.name][4:] == 0).all() and (cut_off.momentum[B.name][:, :4] != 0).all()
    assert (cut_off.tensors[FULL.name] == after.tensors[FULL.name]).all()


def test_rebalancing_is_due_after_every_a_round_and_puts_the_best_slices_first() -> None:
    plan = make_plan(trainable={"ranks": "nested"}, rounds=5)
    assert [p.round for p in planned_sums(plan) if is_due(plan, p)] == [2, 4]
    draw, places = np.random.default_rng(3), np.logspace(0, -0.5, 16, dtype=np.float32)
    factors = {t.name: draw.normal(size=t.shape).astype(np.float32) for t in (A, B)}
    factors[A.name] *= draw.permutation(places)[:, None]
    before = State("", 2, factors)
    after = with_arrays(before, propose(before, (A, B)))
    values = np.linalg.svd(product(factors), compute_uv=False)
    best = float(np.sqrt((values[8:] ** 2).sum() / (values**2).sum()))
    naive, leading = (error_of_leading(state, 8) for state in (before, after))
    assert leading == pytest.approx(best, rel=1e-5) and leading < 0.9 * naive


def error_of_leading(state: State, rank: int) -> float:
    """How far the leading slices alone are from the whole product, relative."""
    b, a = state.tensors[B.name].astype(np.float64), state.tensors[A.name].astype(np.float64)
    return float(np.linalg.norm(b[:, rank:] @ a[rank:]) / np.linalg.norm(b @ a))
