"""Adam and Yogi on the mean update against the formulas of FedOpt (Reddi et al. 2021, algorithm 2), and their steps over rounds."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from protocols.aggregation.server_optimizer import Moments, ServerOptimizer
from protocols.schedule import server_learning_rate
from tests.protocols.test_rounds_rules import make_plan

MEANS = (np.array([0.5, -2.0, 0.0]), np.array([-0.25, -2.0, 1e-4]), np.array([0.0, 1.0, 1e-4]))
BETA1, BETA2, TAU, RATE = 0.6, 0.9, 1e-2, 0.1


def expected(kind: str) -> list[float]:
    """The formulas, one element and one number at a time."""
    values = []
    for element in range(3):
        x, m, v = 1.0, 0.0, 0.0
        for mean in MEANS:
            delta = float(mean[element])
            m = BETA1 * m + (1 - BETA1) * delta
            adam, yogi = BETA2 * v + (1 - BETA2) * delta**2, v - (1 - BETA2) * delta**2 * float(np.sign(v - delta**2))
            v = adam if kind == "adam" else yogi
            x += RATE * m / (v**0.5 + TAU)
        values.append(x)
    return values


@pytest.mark.parametrize("kind", ["adam", "yogi"])
def test_steps_are_those_of_the_formula(kind: Literal["adam", "yogi"]) -> None:
    optimizer, moments = ServerOptimizer(kind, RATE, BETA1, BETA2, TAU), Moments({}, {})
    values = np.ones(3, np.float32)
    for mean in MEANS:
        values = optimizer.step("w", values, mean, moments)
    np.testing.assert_allclose(values, expected(kind), rtol=1e-5)
    assert moments.first.keys() == moments.second.keys() == {"w"} and moments.second["w"].dtype == np.float32


def test_yogi_forgets_a_large_step_more_slowly_than_adam() -> None:
    kept = {}
    for kind in ("adam", "yogi"):
        optimizer, moments = ServerOptimizer(kind, RATE, BETA1, BETA2, TAU), Moments({}, {})
        for mean in (np.array([1.0]), *(np.array([0.01]),) * 10):
            optimizer.step("w", np.zeros(1, np.float32), mean, moments)
        kept[kind] = float(moments.second["w"][0])
    assert kept["yogi"] > 2 * kept["adam"]


def test_a_step_from_stored_moments_has_the_same_bits() -> None:
    optimizer, going, values = ServerOptimizer("adam", RATE, BETA1, BETA2, TAU), Moments({}, {}), np.ones(3, np.float32)
    first = optimizer.step("w", values, MEANS[0], going)
    stored = Moments({"w": going.first["w"].copy()}, {"w": going.second["w"].copy()})
    np.testing.assert_array_equal(optimizer.step("w", first, MEANS[1], going), optimizer.step("w", first, MEANS[1], stored))


def test_steps_of_adaptive_optimisers_alone_fall_over_rounds() -> None:
    """The mean update of plain averaging and Nesterov falls with the institutions' own learning rate."""
    rates = {
        kind: [server_learning_rate(make_plan(aggregation={"server_optimizer": kind, "server_learning_rate": 0.5}), n) for n in (1, 4)]
        for kind in ("none", "nesterov", "adam", "yogi")
    }
    assert rates["none"] == rates["nesterov"] == [0.5, 0.5]
    assert rates["adam"] == rates["yogi"] and rates["adam"][0] == 0.5 > rates["adam"][1] > 0.0
