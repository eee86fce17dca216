"""The optimiser on the mean update: Nesterov as in DiLoCo (Douillard et al. 2023), Adam and Yogi as in FedOpt (Reddi et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from protocols.plan import Aggregation

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moments:
    """What the optimiser carries from round to round, by tensor; `step` replaces the entries of its tensor."""

    first: dict[str, NDArray[np.float32]]
    second: dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class ServerOptimizer:
    """One step on a tensor, given the institutions' mean delta as the direction; "none" is plain averaging."""

    kind: Literal["none", "nesterov", "adam", "yogi"] = "none"
    learning_rate: float = 1.0
    momentum: float = 0.9  # beta 1 of adam and yogi
    beta2: float = 0.99
    epsilon: float = 1e-3  # tau

    @classmethod
    def from_plan(cls, aggregation: Aggregation, learning_rate: float) -> ServerOptimizer:
        """The plan's optimiser in a round with this learning rate (`protocols.schedule.server_learning_rate`)."""
        return cls(
            aggregation.server_optimizer,
            learning_rate,
            aggregation.server_momentum,
            aggregation.server_beta2,
            aggregation.server_epsilon,
        )

    def step(self, name: str, values: NDArray[np.float32], mean: Array, moments: Moments) -> NDArray[np.float32]:
        """The tensor after the step, float32. Moments are moved by their own tensor's rounds alone.

        All moments are rounded before they are used: whoever resumes from a state file must compute the same bits.
        """
        direction = {"none": _plain, "nesterov": _nesterov}.get(self.kind, _adaptive)(self, name, mean, moments)
        return (values.astype(np.float64) + self.learning_rate * direction).astype(np.float32)


def _plain(_: ServerOptimizer, __: str, mean: Array, ___: Moments) -> Array:
    return mean


def _nesterov(optimizer: ServerOptimizer, name: str, mean: Array, moments: Moments) -> Array:
    velocity = _kept(moments.first, name, optimizer.momentum * _before(moments.first, name, mean) + mean)
    return mean + optimizer.momentum * velocity


def _adaptive(optimizer: ServerOptimizer, name: str, mean: Array, moments: Moments) -> Array:
    """Without Adam's correction of the first steps, as in FedOpt."""
    beta1, beta2, square = optimizer.momentum, optimizer.beta2, mean * mean
    first = _kept(moments.first, name, beta1 * _before(moments.first, name, mean) + (1 - beta1) * mean)
    before = _before(moments.second, name, mean)
    grown = beta2 * before + (1 - beta2) * square if optimizer.kind == "adam" else before - (1 - beta2) * square * np.sign(before - square)
    second = _kept(moments.second, name, grown)
    return first / (np.sqrt(second) + optimizer.epsilon)


def _before(moments: dict[str, NDArray[np.float32]], name: str, like: Array) -> Array:
    return moments[name].astype(np.float64) if name in moments else np.zeros_like(like)


def _kept(moments: dict[str, NDArray[np.float32]], name: str, values: Array) -> Array:
    moments[name] = values.astype(np.float32)
    return moments[name].astype(np.float64)
