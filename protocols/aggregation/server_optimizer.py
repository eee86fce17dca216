"""The optimiser on the mean update (FedOpt, Reddi et al. 2021; Nesterov as in DiLoCo, Douillard et al. 2023)."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.plan import Aggregation


@dataclass(frozen=True, slots=True)
class ServerOptimizer:
    """One step on a tensor, given the institutions' mean delta as the direction; no momentum is plain averaging."""

    learning_rate: float = 1.0
    momentum: float = 0.0

    @classmethod
    def from_plan(cls, aggregation: Aggregation) -> ServerOptimizer:
        nesterov = aggregation.server_optimizer == "nesterov"
        return cls(aggregation.server_learning_rate, aggregation.server_momentum if nesterov else 0.0)

    def step(
        self, name: str, values: NDArray[np.float32], mean: NDArray[np.float64], velocity: MutableMapping[str, NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """The tensor after the step; its velocity, which only this tensor's own rounds move, is replaced in `velocity`."""
        direction = mean
        if self.momentum > 0.0:
            before = velocity[name].astype(np.float64) if name in velocity else np.zeros_like(mean)
            moved = self.momentum * before + mean
            velocity[name] = moved.astype(np.float32)
            # From the rounded velocity: whoever resumes from a state file must compute the same bits.
            direction = mean + self.momentum * velocity[name].astype(np.float64)
        return (values.astype(np.float64) + self.learning_rate * direction).astype(np.float32)
