"""What every aggregation rule shares: weighted deltas go in, their weighted mean comes out of the sum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.aggregation.server_optimizer import Moments, ServerOptimizer
from protocols.encoding import Block
from protocols.on_demand import OnDemand
from protocols.plan import Plan
from protocols.schedule import PlannedSum
from protocols.state import State

Values = Mapping[str, NDArray[np.float64]]
Keep = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # the same values, in memory that there is enough of


class Tensor(Protocol):
    """One tensor of the adapter, as `model.layout` describes it."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def kind(self) -> str: ...
    @property
    def expert(self) -> tuple[int, int] | None: ...


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of one institution, or their sums over institutions: one for shared tensors, one per adapted expert."""

    shared: float
    experts: Mapping[tuple[int, int], float]  # (layer, expert) -> weight

    def of(self, tensor: Tensor) -> float:
        return self.shared if tensor.expert is None else self.experts[tensor.expert]


@dataclass(frozen=True, slots=True)
class ServerStep:
    """How a mean update moves the state."""

    optimizer: ServerOptimizer
    expert_shrinkage: float = 0.0  # kappa, added to the weight of an expert
    keep: Keep = np.asarray  # where the state's new tensors go


class Rule(ABC):
    """An aggregation rule: which tensors a round trains, what an institution puts in, what the sum does to the state."""

    @abstractmethod
    def trained(self, round_number: int, layout: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The tensors that a round trains and sums; all others stay as they are at every party."""

    def private(self, layout: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The tensors that every institution trains for itself: they leave none, and the state holds their starting values."""
        return ()

    def lanes(self, plan: Plan, state: State, planned: PlannedSum, layout: Sequence[Tensor]) -> tuple[Block, ...]:
        """Lanes of the rule's own: beside those of the update, or in a sum that other rules do not have."""
        return ()

    def basis(self, plan: Plan, planned: PlannedSum, layout: Sequence[Tensor]) -> Mapping[str, tuple[int, ...]]:
        """Shapes of what the state's basis holds after a sum and its proposal, by name, unless nobody counted in the sum."""
        return {}

    def applied(
        self, plan: Plan, state: State, planned: PlannedSum, total: Values, layout: Sequence[Tensor]
    ) -> tuple[State, Mapping[str, float]]:
        """The state with the rule's own lanes in it, after `apply` where the sum is an update; and figures of them."""
        return state, {}

    def contribution(self, delta: Mapping[str, NDArray[np.float32]], weights: Weights, trained: Sequence[Tensor]) -> Values:
        """One institution's summand of each trained tensor, made when it is asked for: weight times delta, float64."""
        factors = {tensor.name: weights.of(tensor) for tensor in trained}
        return OnDemand(factors, lambda name: np.asarray(delta[name], np.float64) * factors[name])

    def apply(self, state: State, total: Values, weights: Weights, trained: Sequence[Tensor], server: ServerStep) -> State:
        """The next state. Element-wise float64 in a fixed order, so bit-equal everywhere; a tensor of total weight zero stays.

        Deltas of experts are averaged by their own weights: no institution without tokens for an expert pulls it back.
        """
        tensors, moments = dict(state.tensors), Moments(dict(state.momentum), dict(state.second_moments))
        for tensor in trained:
            weight = weights.of(tensor)
            if weight > 0.0:
                mean = total[tensor.name] / (weight if tensor.expert is None else weight + server.expert_shrinkage)
                tensors[tensor.name] = server.optimizer.step(tensor.name, tensors[tensor.name], mean, moments)
                _keep(server.keep, tensor.name, tensors, moments.first, moments.second)
        return replace(state, round=state.round + 1, tensors=tensors, momentum=moments.first, second_moments=moments.second)


def _keep(keep: Keep, name: str, *groups: dict[str, NDArray[np.float32]]) -> None:
    for group in groups:
        if name in group:
            group[name] = keep(group[name])
