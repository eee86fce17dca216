"""What an institution puts into a sum: the lanes' values, computed from its own work and from nothing of anyone else's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from client.alone import is_worse
from client.continued import cores_of, gradients_of, sketches_of
from client.work import LocalUpdate, MetricSums, Work
from protocols.aggregation import Tensor, Weights, router_bias
from protocols.encoding import LaneLayout
from protocols.errors import UpdateError
from protocols.on_demand import OnDemand
from protocols.parts import is_kept, part_lane
from protocols.ranks import expert_slices, held_rank, held_slices, leading_slices, rank_blocks, summed_slices
from protocols.schedule import PlannedSum, compares_alone
from protocols.selection import normalized_affinities
from protocols.state import Experts, State
from protocols.sums import experts
from protocols.sums.evaluate import WORSE_THAN_ALONE
from protocols.sums.private_update import constant_weights
from protocols.sums.update import delta_lane, weight_lane
from protocols.terms import Terms

Values = Mapping[str, NDArray[np.float64]]


def contribute(
    work: Work,
    terms: Terms,
    state: State,
    planned: PlannedSum,
    train: Callable[[], LocalUpdate],
    alone: Callable[[], MetricSums],
) -> Values:
    """Does the work of one sum and returns its values, each made within its lane's bound when it is asked for.

    Args:
        train: the round's training, which is done once for all sums that are made of it (`client.trainings`).
        alone: the metric of the local-only model, which is asked for in the last evaluation at most (`client.alone`).

    Raises:
        UpdateError: the work's result is not finite, or does not fit the plan; here, or when it is asked for.
    """
    held = held_rank(terms.plan, work.max_rank)
    if planned.kind == "update":
        trained = _leading(train(), terms, state, planned, summed_slices(state.pre_round, held))
        values = _update(trained, terms, state, planned)
    elif planned.kind == "parts":
        trained = _leading(train(), terms, state, planned, held)
        values = _parts(trained, terms, state, planned, held)
    elif planned.kind == "update-2":
        values = _second(train(), terms, state)
    elif planned.kind in ("gradient", "gradient-2"):
        values = gradients_of(work, terms, state, planned)
    elif planned.kind == "experts":
        values = {experts.lane(layer): share for layer, share in normalized_affinities(work.expert_affinity()).items()}
    else:
        values = _measured(work, terms, state, planned, alone)
    return _bounded(values, terms.lanes(state, planned))


def _measured(work: Work, terms: Terms, state: State, planned: PlannedSum, alone: Callable[[], MetricSums]) -> Values:
    sums = work.evaluate(state.tensors, state.experts)
    values = {"numerator": np.array([sums.numerator]), "denominator": np.array([float(sums.denominator)])}
    if terms.measures_drafts(planned):
        drafts = work.drafts(state.tensors, state.experts)
        values |= {"accepted": np.array([float(drafts.accepted)]), "drafted": np.array([float(drafts.drafted)])}
    if compares_alone(terms.plan, planned):
        values[WORSE_THAN_ALONE] = np.array([float(is_worse(sums, alone(), terms.plan.evaluation.higher_is_better))])
    return values


def touched_parts(update: LocalUpdate, trained: Sequence[Tensor], chosen: Experts) -> dict[str, NDArray[np.float64]]:
    """One bit for each adapted expert: whether this institution's own summand of it, tokens times delta, is not all zero.

    Weight decay moves an expert without tokens too; who counts as its contributor must add something to its lanes.
    """
    moved = {tensor.expert for tensor in trained if tensor.expert is not None and np.any(update.delta[tensor.name])}
    return {
        part_lane(layer): np.array([float(update.expert_tokens[layer][e] > 0 and (layer, e) in moved) for e in of_layer])
        for layer, of_layer in chosen.items()
    }


def _leading(update: LocalUpdate, terms: Terms, state: State, planned: PlannedSum, rank: int | None) -> LocalUpdate:
    """What was trained, without the slices from `rank` on."""
    return replace(update, delta=leading_slices(update.delta, terms.trained(state, planned), rank))


def _parts(update: LocalUpdate, terms: Terms, state: State, planned: PlannedSum, held: int | None) -> Values:
    touched, slices = touched_parts(update, terms.trained(state, planned), state.experts), expert_slices(terms.plan)
    if slices is not None:
        touched = {lane: np.outer(bits, held_slices(slices, held)) for lane, bits in touched.items()}
    return touched | {block.name: held_slices(block.size, held) for block in rank_blocks(terms.plan)}


def _update(update: LocalUpdate, terms: Terms, state: State, planned: PlannedSum) -> Values:
    trained = terms.trained(state, planned)
    weights = local_weights(update, terms, state)
    deltas = terms.rule.contribution(update.delta, weights, trained)
    lanes = OnDemand([delta_lane(name) for name in deltas], lambda lane: deltas[lane.removeprefix(delta_lane(""))])
    return lanes | {
        "weight": np.array([weights.shared]),
        **{weight_lane(layer): np.array([weights.experts[layer, e] for e in chosen]) for layer, chosen in state.experts.items()},
        **router_bias.contribution(update.expert_tokens, terms.balanced_layers, terms.token_cap()),
        "loss": np.array([update.loss_sum], np.float64),
        "examples": np.array([float(update.examples)]),
        **sketches_of(update, weights.shared, terms, state, planned),
    }


def _second(update: LocalUpdate, terms: Terms, state: State) -> Values:
    return cores_of(update, local_weights(update, terms, state).shared, terms, state)


def local_weights(update: LocalUpdate, terms: Terms, state: State) -> Weights:
    """Weight 1, or target tokens over the cap; for an expert always its routed tokens over the cap (as in FLAME, arXiv 2506.16600).

    An expert that the round's pre-round left out weighs nothing, so that delta and weight lanes of it are zero.
    """
    if terms.plan.privacy is not None:
        return constant_weights(state.experts)
    cap = terms.token_cap()
    shared = min(update.tokens, cap) / cap if terms.plan.aggregation.weights == "tokens" else 1.0
    experts = {
        (layer, expert): min(int(update.expert_tokens[layer][expert]), cap) / cap if is_kept(state.pre_round, (layer, expert)) else 0.0
        for layer, chosen in state.experts.items()
        for expert in chosen
    }
    return Weights(shared, experts)


def _bounded(values: Values, lanes: LaneLayout) -> Values:
    """Clips real lanes to their bounds: one wild step must not make the whole vector unusable. Counts are never changed."""
    blocks = {block.name: block for block in lanes.blocks}

    def bounded(name: str) -> NDArray[np.float64]:
        block, lane = blocks[name], values[name]
        if not np.isfinite(lane).all():
            raise UpdateError(f"{block.name} holds a number that is not finite; lower training.learning_rate and submit the plan again")
        if block.integer and np.abs(lane).max() > block.bound:
            raise UpdateError(f"{block.name} is above {block.bound:.0f}, the most that the plan allows; raise evaluation.max_records")
        return np.clip(lane, -block.bound, block.bound)

    return OnDemand(blocks, bounded)
