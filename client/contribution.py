"""What an institution puts into a sum: the lanes' values, computed from its own work and from nothing of anyone else's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from client.work import LocalUpdate, Work
from protocols.aggregation import Weights
from protocols.encoding import LaneLayout
from protocols.errors import UpdateError
from protocols.schedule import PlannedSum
from protocols.selection import normalized_affinities
from protocols.state import State
from protocols.update import Terms

Values = dict[str, NDArray[np.float64]]


def contribute(work: Work, terms: Terms, state: State, planned: PlannedSum) -> Values:
    """Does the work of one sum and returns its values, each within its lane's bound.

    Raises:
        UpdateError: the work's result is not finite, or does not fit the plan.
    """
    if planned.kind == "update":
        values = _update(work, terms, state, planned)
    elif planned.kind == "experts":
        values = {f"affinity.{layer}": share for layer, share in normalized_affinities(work.expert_affinity()).items()}
    else:
        sums = work.evaluate(state.tensors, state.experts)
        values = {"numerator": np.array([sums.numerator]), "denominator": np.array([float(sums.denominator)])}
    return _bounded(values, terms.lanes(state, planned))


def _update(work: Work, terms: Terms, state: State, planned: PlannedSum) -> Values:
    trained = terms.trained(state, planned)
    update = work.train(planned.round, state.tensors, [tensor.name for tensor in trained], state.experts)
    _check_update(update, {tensor.name: tensor.shape for tensor in trained})
    weights = local_weights(update, terms, state)
    deltas = terms.rule.contribution(update.delta, weights, trained)
    return {
        **{f"delta.{name}": values for name, values in deltas.items()},
        "weight": np.array([weights.shared]),
        **{f"expert_weights.{layer}": np.array([weights.experts[layer, e] for e in chosen]) for layer, chosen in state.experts.items()},
        "loss": np.array([update.loss_sum], np.float64),
        "examples": np.array([float(update.examples)]),
    }


def local_weights(update: LocalUpdate, terms: Terms, state: State) -> Weights:
    """Weight 1, or target tokens over the cap; for an expert always its routed tokens over the cap (as in FLAME, arXiv 2506.16600)."""
    cap = terms.token_cap()
    shared = min(update.tokens, cap) / cap if terms.plan.aggregation.weights == "tokens" else 1.0
    experts = {
        (layer, expert): min(int(update.expert_tokens[layer][expert]), cap) / cap
        for layer, chosen in state.experts.items()
        for expert in chosen
    }
    return Weights(shared, experts)


def _check_update(update: LocalUpdate, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        if name not in update.delta or update.delta[name].shape != shape:
            raise UpdateError(f"training returned no delta of shape {shape} for {name}; base and plan do not fit this version")


def _bounded(values: Values, lanes: LaneLayout) -> Values:
    """Clips real lanes to their bounds: one wild step must not make the whole vector unusable. Counts are never changed."""
    bounded: Values = {}
    for block in lanes.blocks:
        lane = values[block.name]
        if not np.isfinite(lane).all():
            raise UpdateError(f"{block.name} holds a number that is not finite; lower training.learning_rate and submit the plan again")
        if block.integer and np.abs(lane).max() > block.bound:
            raise UpdateError(f"{block.name} is above {block.bound:.0f}, the most that the plan allows; raise evaluation.max_records")
        bounded[block.name] = np.clip(lane, -block.bound, block.bound)
    return bounded
