"""Experts are averaged by the tokens routed to them, and shrunk where these are few: sum of w delta over kappa plus sum of w."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.layout import AdapterTensor
from protocols.aggregation import ServerOptimizer, ServerStep, Weights
from protocols.aggregation.fedavg import FedAvg
from protocols.state import State

EXPERT, SHARED = AdapterTensor("x.lora_B.weight", (2,), "lora_B", (1, 5)), AdapterTensor("h.lora_B.weight", (2,), "lora_B")
START = State("", 0, {tensor.name: np.array([1.0, -2.0], np.float32) for tensor in (EXPERT, SHARED)}, {1: (5,)})
INSTITUTIONS = st.lists(st.tuples(st.floats(0.01, 1), st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=5)
Institutions = list[tuple[float, float, float]]  # weight of the expert, and its delta


def step(institutions: Institutions, kappa: float) -> dict[str, np.ndarray]:
    """How far a round moves both tensors."""
    layout, total, weight = (EXPERT, SHARED), {EXPERT.name: np.zeros(2), SHARED.name: np.zeros(2)}, 0.0
    for share, *delta in institutions:
        values = {tensor.name: np.array(delta, np.float32) for tensor in layout}
        for name, part in FedAvg().contribution(values, Weights(1.0, {(1, 5): share}), layout).items():
            total[name] += part
        weight += share
    server = ServerStep(ServerOptimizer(), expert_shrinkage=kappa)
    after = FedAvg().apply(START, total, Weights(float(len(institutions)), {(1, 5): weight}), layout, server)
    return {name: after.tensors[name] - START.tensors[name] for name in total}


@given(INSTITUTIONS)
def test_without_shrinkage_it_is_the_mean_weighted_by_tokens(institutions: Institutions) -> None:
    table = np.array(institutions)
    moved = step(institutions, kappa=0.0)
    np.testing.assert_allclose(moved[EXPERT.name], np.average(table[:, 1:], axis=0, weights=table[:, 0]), atol=1e-6)
    np.testing.assert_allclose(moved[SHARED.name], table[:, 1:].mean(0), atol=1e-6)


@given(INSTITUTIONS, st.floats(0.01, 10), st.floats(0.01, 10))
def test_shrinkage_moves_an_expert_less_the_fewer_tokens_it_had_and_nothing_else(
    institutions: Institutions, kappa: float, more: float
) -> None:
    weight = sum(share for share, *_ in institutions)
    plain, shrunk, further = (step(institutions, value) for value in (0.0, kappa, kappa + more))
    np.testing.assert_allclose(shrunk[EXPERT.name], plain[EXPERT.name] * weight / (weight + kappa), atol=1e-6)
    assert (np.abs(further[EXPERT.name]) <= np.abs(shrunk[EXPERT.name]) + 1e-6).all()
    assert all(np.array_equal(moved[SHARED.name], plain[SHARED.name]) for moved in (shrunk, further))


@given(st.floats(0, 10))
def test_an_expert_that_nobody_trained_stays(kappa: float) -> None:
    assert (step([(0.0, 0.5, 0.5), (0.0, -1.0, 1.0)], kappa)[EXPERT.name] == 0).all()
