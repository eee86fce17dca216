"""SCAFFOLD's control variates against the drift of institutions (Karimireddy et al. 2020, option II), both halves.

The mean displacement of a step, in learning rates, stands in the gradient's place, so that any local optimiser will do: an
institution that moved by delta_k in K steps at rate l has c_k+ = c_k - c - delta_k / (K l). With weights of 1 the mean of that over
N institutions, of whom those that took no part keep theirs, needs the summed deltas alone: no further lane is sent.
Routed experts are left out, because institutions weigh them by their tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.aggregation.base import Keep, Tensor
from protocols.plan import Plan
from protocols.schedule import learning_rate
from protocols.state import Tensors

_Variate: TypeAlias = NDArray[np.float32] | np.float32  # a tensor's, or the zero that it begins with


def controlled(trained: Sequence[Tensor]) -> tuple[str, ...]:
    """The trained tensors that have control variates."""
    return tuple(tensor.name for tensor in trained if tensor.expert is None and tensor.kind != "router_bias")


def pace(plan: Plan, round_number: int) -> float:
    """How far a round's steps go where every step's displacement is one learning rate."""
    return plan.training.local_steps * learning_rate(plan, round_number)


def corrections(common: Tensors, own: Tensors, names: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """c - c_k, which every step moves by less, times its learning rate; a tensor without variates has none yet."""
    return {name: np.asarray(_variate(common, name) - _variate(own, name)) for name in names if name in common or name in own}


def own_after(common: Tensors, own: Tensors, delta: Tensors, names: Collection[str], pace: float) -> dict[str, NDArray[np.float32]]:
    """An institution's variates after a round in which its training moved `names` by `delta`; those of other tensors stay."""
    return {**own, **{name: _moved_alone(_variate(common, name), _variate(own, name), delta[name], pace) for name in names}}


def common_after(
    common: Tensors,
    total: Mapping[str, NDArray[np.float64]],
    names: Collection[str],
    *,
    survivors: float,
    institutions: int,
    pace: float,
    keep: Keep = np.asarray,
) -> dict[str, NDArray[np.float32]]:
    """The variates of all after a round: the mean of `own_after` over all institutions, computed from the survivors' summed deltas.

    c+ = c + (S / N) (-c - mean_delta / (K l)), float64 and element-wise, so bit-equal everywhere.
    """
    return {**common, **{name: keep(_moved(_variate(common, name), total[name], survivors, institutions, pace)) for name in names}}


def _moved_alone(common: _Variate, own: _Variate, delta: NDArray[np.float32], pace: float) -> NDArray[np.float32]:
    before = np.asarray(own, np.float64) - np.asarray(common, np.float64)
    values: NDArray[np.float32] = (before - np.asarray(delta, np.float64) / pace).astype(np.float32)
    return values


def _moved(before: _Variate, total: NDArray[np.float64], survivors: float, institutions: int, pace: float) -> NDArray[np.float32]:
    kept = (1.0 - survivors / institutions) * np.asarray(before, np.float64)
    values: NDArray[np.float32] = (kept - total / (institutions * pace)).astype(np.float32)
    return values


def _variate(variates: Tensors, name: str) -> _Variate:
    return variates.get(name, np.float32(0.0))
