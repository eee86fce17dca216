"""Schedule, expert selection, aggregation rules and server optimiser: what every party must compute alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.layout import AdapterTensor
from protocols.aggregation import ServerOptimizer, ServerStep, Weights
from protocols.aggregation.alternating import Alternating
from protocols.aggregation.fedavg import FedAvg
from protocols.pack import PackError, pack, unpack
from protocols.plan import Plan, parse_plan
from protocols.schedule import learning_rate, planned_sums
from protocols.selection import normalized_affinities, select_experts
from protocols.state import State

LAYOUT = (
    AdapterTensor("h.lora_A.weight", (2, 3), "lora_A"),
    AdapterTensor("h.lora_B.weight", (4, 2), "lora_B"),
    AdapterTensor("e.weight", (3,), "full"),
    AdapterTensor("x.lora_B.weight", (4, 2), "lora_B", (1, 5)),
)


def make_plan(**content: object) -> Plan:
    return parse_plan({"name": "p", "base": "tiny", "records": {"prompt": "{a}", "target": "{b}"}, "rounds": 4, **content}, "plan")


def test_every_third_round_and_the_last_are_evaluated() -> None:
    sums = planned_sums(make_plan(evaluation={"every": 3}))
    assert [(s.round, s.kind) for s in sums if s.kind != "parts"] == [
        (0, "evaluate"), (0, "experts"), (1, "update"), (2, "update"), (3, "update"), (3, "evaluate"), (4, "update"), (4, "evaluate"),
    ]  # fmt: skip
    assert [s.round for s in sums if s.last_of_round] == [0, 1, 2, 3, 4]


def test_update_of_a_plan_with_experts_follows_its_pre_round_and_one_without_has_none() -> None:
    with_experts, without = (planned_sums(make_plan(trainable={"experts": experts})) for experts in ("all", "none"))
    assert [s.kind for s in with_experts] == ["evaluate", *["parts", "update", "evaluate"] * 4]
    assert [s.kind for s in without] == ["evaluate", *["update", "evaluate"] * 4]


def test_plan_without_esft_sums_no_affinities() -> None:
    assert "experts" not in {s.kind for s in planned_sums(make_plan(trainable={"experts": "all"}))}


@pytest.mark.parametrize(("schedule", "last"), [("constant", 1.0), ("linear", 0.25), ("cosine", 0.5 * (1 + np.cos(0.75 * np.pi)))])
def test_learning_rate_falls_over_rounds_and_never_to_zero(schedule: str, last: float) -> None:
    plan = make_plan(training={"schedule": schedule, "learning_rate": 0.01})
    assert learning_rate(plan, 1) == 0.01 and learning_rate(plan, 4) == pytest.approx(0.01 * last)


def test_experts_are_the_smallest_cover() -> None:
    shares = {1: np.array([0.1, 0.5, 0.3, 0.1]), 2: np.array([0.25, 0.25, 0.25, 0.25])}
    assert select_experts(shares, 0.5) == {1: (1,), 2: (0, 1)}
    assert select_experts(shares, 0.51) == {1: (1, 2), 2: (0, 1, 2)}


def test_layer_without_tokens_selects_by_number_and_adds_nothing() -> None:
    assert (normalized_affinities({1: np.zeros(4)})[1] == 0).all()
    assert select_experts({1: np.zeros(4)}, 0.5) == {1: (0, 1)}


def test_alternating_trains_b_in_odd_and_a_in_even_rounds_and_full_tensors_in_both() -> None:
    rule = Alternating()
    assert {t.name for t in rule.trained(1, LAYOUT)} == {"h.lora_B.weight", "e.weight", "x.lora_B.weight"}
    assert {t.name for t in rule.trained(2, LAYOUT)} == {"h.lora_A.weight", "e.weight"}
    assert FedAvg().trained(2, LAYOUT) == LAYOUT


def start() -> State:
    return State("", 0, {t.name: np.ones(t.shape, np.float32) for t in LAYOUT}, {1: (5,)})


def test_expert_without_tokens_stays_and_others_are_averaged_by_their_own_weight() -> None:
    total = {t.name: np.full(t.shape, 6.0) for t in LAYOUT}
    after = FedAvg().apply(start(), total, Weights(3.0, {(1, 5): 0.0}), LAYOUT, ServerStep(ServerOptimizer()))
    assert (after.tensors["x.lora_B.weight"] == 1.0).all() and (after.tensors["h.lora_A.weight"] == 3.0).all() and after.round == 1
    after = FedAvg().apply(start(), total, Weights(3.0, {(1, 5): 0.5}), LAYOUT, ServerStep(ServerOptimizer()))
    assert (after.tensors["x.lora_B.weight"] == 13.0).all()


def test_nesterov_matches_its_formula_and_moves_only_what_is_trained() -> None:
    server, rule, state = ServerStep(ServerOptimizer("nesterov", 0.5, 0.9)), Alternating(), start()
    for number, mean in ((1, 2.0), (2, 1.0), (3, 4.0)):
        trained = rule.trained(number, LAYOUT)
        state = rule.apply(state, {t.name: np.full(t.shape, mean) for t in trained}, Weights(1.0, {(1, 5): 1.0}), trained, server)
    velocity = 0.9 * 2.0 + 4.0  # rounds 1 and 3 alone
    expected = 1 + 0.5 * (2.0 + 0.9 * 2.0) + 0.5 * (4.0 + 0.9 * velocity)
    np.testing.assert_allclose(state.tensors["h.lora_B.weight"], expected, rtol=1e-6)
    np.testing.assert_allclose(state.momentum["h.lora_B.weight"], velocity, rtol=1e-6)


@given(st.dictionaries(st.text(max_size=5), st.binary(max_size=9), max_size=4))
def test_pack_is_undone_by_unpack(parts: dict[str, bytes]) -> None:
    assert unpack(pack(parts)) == parts


@given(st.binary(max_size=30))
def test_unpack_accepts_only_what_pack_makes(data: bytes) -> None:
    try:
        assert pack(unpack(data)) == data
    except PackError:
        return
