"""Control variates against numpy's arithmetic: no drift where the mean of institutions drifts, and one mean for all."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocols.aggregation.scaffold import common_after, corrections, own_after
from protocols.state import Tensors

STEPS, RATE, ROUNDS = 10, 0.05, 400
CURVES = np.array([[1.0, 6.0], [4.0, 0.5], [0.2, 2.0]])  # of three institutions' quadratics, by coordinate
CENTRES = np.array([[2.0, -1.0], [-3.0, 4.0], [0.5, 1.0]])
OPTIMUM = (CURVES * CENTRES).sum(0) / CURVES.sum(0)
NAMES = ("x",)


@dataclass
class Quadratics:
    """Gradient descent at every institution on 0.5 curve (x - centre)^2, and the mean of what came out."""

    controlled: bool
    x: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    common: Tensors = field(default_factory=dict)
    own: list[Tensors] = field(default_factory=lambda: [{} for _ in CURVES])

    def round(self, taking_part: tuple[int, ...] = (0, 1, 2)) -> None:
        deltas = {k: self._delta(k) for k in taking_part}
        if self.controlled:
            for k, delta in deltas.items():
                self.own[k] = own_after(self.common, self.own[k], {"x": delta.astype(np.float32)}, NAMES, STEPS * RATE)
            total = {"x": np.asarray(np.sum([delta.astype(np.float32) for delta in deltas.values()], 0, dtype=np.float64))}
            count, all_of_them = float(len(deltas)), len(CURVES)
            self.common = common_after(self.common, total, NAMES, survivors=count, institutions=all_of_them, pace=STEPS * RATE)
        self.x = self.x + np.mean(list(deltas.values()), axis=0)

    def _delta(self, k: int) -> NDArray[np.float64]:
        x, correction = self.x.copy(), corrections(self.common, self.own[k], NAMES).get("x", np.zeros(2))
        for _ in range(STEPS):
            x = x - RATE * (CURVES[k] * (x - CENTRES[k]) + correction)
        return x - self.x

    def mean_of_own(self) -> NDArray[np.float64]:
        return np.asarray(np.mean([own.get("x", np.zeros(2)) for own in self.own], axis=0))


def test_control_variates_lead_to_the_optimum_that_the_plain_mean_misses() -> None:
    plain, controlled = Quadratics(False), Quadratics(True)
    for _ in range(ROUNDS):
        plain.round()
        controlled.round()
    assert np.abs(plain.x - OPTIMUM).max() > 0.1
    np.testing.assert_allclose(controlled.x, OPTIMUM, atol=1e-4)


def test_with_everyone_there_an_institution_s_variate_is_its_mean_gradient() -> None:
    world = Quadratics(True)
    for _ in range(ROUNDS):
        world.round()
    for k, own in enumerate(world.own):
        np.testing.assert_allclose(own["x"], CURVES[k] * (OPTIMUM - CENTRES[k]), atol=1e-3)


@given(st.lists(st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=3, unique=True), min_size=1, max_size=8))
def test_whoever_takes_part_the_common_variate_is_the_mean_of_all(parts: list[list[int]]) -> None:
    world = Quadratics(True)
    for taking_part in parts:
        world.round(tuple(taking_part))
        np.testing.assert_allclose(world.common["x"], world.mean_of_own(), rtol=1e-5, atol=1e-5)


def test_tensors_that_a_round_does_not_train_keep_their_variates() -> None:
    before: Tensors = {"a": np.full(1, 1.0, np.float32), "b": np.full(1, 2.0, np.float32)}
    own = own_after({}, before, {"b": np.full(1, 0.5, np.float32)}, ("b",), 0.5)
    assert own["a"] is before["a"] and own["b"] == pytest.approx(1.0)
    common = common_after(before, {"b": np.array([1.0])}, ("b",), survivors=2.0, institutions=4, pace=0.5)
    assert common["a"] is before["a"] and common["b"] == pytest.approx(0.5 * 2.0 - 1.0 / 2.0)
    assert corrections(before, {}, ("b", "c")).keys() == {"b"}
