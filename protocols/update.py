"""The vectors of a round's sums: what each holds, lane by lane, and what their totals do to the state.

Nothing about one institution travels outside such a vector: weights, counts and losses are lanes of it. Bounds are a pure
function of plan and round, so that every party computes the same scales.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.aggregation import Rule, ServerOptimizer, Tensor, Weights, rebalance, rule_of
from protocols.encoding import Block, LaneLayout
from protocols.errors import RebalanceError
from protocols.parts import Survivors, check_update_set, is_kept, kept_parts, part_blocks, part_counts
from protocols.plan import Plan
from protocols.schedule import PlannedSum, learning_rate
from protocols.selection import experts_without_choice, select_experts
from protocols.state import Experts, PreRound, State

Values = Mapping[str, NDArray[np.float64]]

# AdamW moves an element by at most about one learning rate a step; four leave room for weight decay and momentum.
STEPS_BOUND = 4.0
LOSS_BOUND = 64.0  # nats per example, far above ln(vocabulary)
BITS_PER_TOKEN = 64.0
BYTES_PER_TOKEN = 16


class Adaptation(Protocol):
    """What the plan makes of its base (`model.layout.Adaptation`)."""

    @property
    def expert_counts(self) -> Mapping[int, int]: ...
    def layout(self, experts: Experts) -> Sequence[Tensor]: ...
    def initial(self, experts: Experts) -> dict[str, NDArray[np.float32]]: ...


@dataclass(frozen=True, slots=True)
class Figures:
    """What a sum says about the consortium as a whole; None where that sum does not say it."""

    loss: float | None = None  # mean over training examples
    numerator: float | None = None
    denominator: int | None = None
    metric: float | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """Plan and base together: everything that decides how a sum is laid out and applied."""

    plan: Plan
    adaptation: Adaptation

    @property
    def rule(self) -> Rule:
        return rule_of(self.plan)

    def start(self) -> State:
        """The public starting point, before experts are chosen."""
        mode = self.plan.trainable.experts
        return self._initial(experts_without_choice(mode, self.adaptation.expert_counts))

    def trained(self, state: State, planned: PlannedSum) -> tuple[Tensor, ...]:
        """The tensors that a round trains and its `update` sum holds."""
        return self.rule.trained(planned.round, self.adaptation.layout(state.experts))

    def lanes(self, state: State, planned: PlannedSum) -> LaneLayout:
        """Order, shape and scale of every lane of one sum."""
        if planned.kind == "parts":
            return LaneLayout(part_blocks(state.experts))
        blocks = {"update": self._update_blocks, "experts": self._expert_blocks, "evaluate": self._metric_blocks}
        return LaneLayout(tuple(blocks[planned.kind](state, planned)), self.plan.secure_aggregation.lanes)

    def apply(self, state: State, planned: PlannedSum, total: Values, survivors: Survivors) -> tuple[State, Figures]:
        """The next state and the consortium's figures from a decoded total; bit-equal at every party.

        Args:
            survivors: whom the total is of, from the sum's certificate and epoch.

        Raises:
            PartsError: an update over others than its pre-round allows, or of an epoch whose threshold is too small for it.
        """
        if planned.kind == "parts":
            kept = kept_parts(part_counts(state.experts, total), survivors)
            return replace(state, pre_round=PreRound(kept, tuple(sorted(survivors.members)), survivors.threshold)), Figures()
        if planned.kind == "update":
            check_update_set(state.pre_round, survivors)
            return self._apply_update(state, planned, total)
        if planned.kind == "experts":
            affinities = {layer: total[f"affinity.{layer}"] for layer in self.adaptation.expert_counts}
            return self._initial(select_experts(affinities, self.plan.trainable.expert_top_p)), Figures()
        return state, _metric(total)

    def propose(self, state: State, planned: PlannedSum) -> rebalance.Proposal:
        """Re-balanced LoRA factors for the state that a sum led to; empty where none are due. Not the same bits on every machine."""
        return rebalance.propose(state, self.adaptation.layout(state.experts)) if rebalance.is_due(self.plan.aggregation, planned) else {}

    def adopt(self, state: State, planned: PlannedSum, proposed: rebalance.Proposal) -> State:
        """The state with a proposal in it; an empty one changes nothing.

        Raises:
            RebalanceError: none is due after this sum, or it does not hold.
        """
        if proposed and not rebalance.is_due(self.plan.aggregation, planned):
            raise RebalanceError(f"the plan re-balances nothing after the {planned.kind} sum of round {planned.round}")
        rebalance.check(state, proposed, self.adaptation.layout(state.experts))
        return rebalance.adopted(state, proposed) if proposed else state

    def token_cap(self) -> int:
        """Tokens that give an institution, or an expert within it, the full weight of 1."""
        training = self.plan.training
        return training.local_steps * training.batch_size * self.plan.records.max_tokens

    def _initial(self, experts: Experts) -> State:
        return State(self.plan.base.sha256, 0, self.adaptation.initial(experts), experts)

    def _update_blocks(self, state: State, planned: PlannedSum) -> list[Block]:
        training = self.plan.training
        bound = STEPS_BOUND * learning_rate(self.plan, planned.round) * training.local_steps
        examples = training.local_steps * training.batch_size
        return [
            *(Block(f"delta.{t.name}", t.shape, bound, False, narrow=True) for t in self.trained(state, planned)),
            Block("weight", (1,), 1.0, False),
            *(Block(f"expert_weights.{layer}", (len(state.experts[layer]),), 1.0, False) for layer in sorted(state.experts)),
            Block("loss", (1,), LOSS_BOUND * examples, False),
            Block("examples", (1,), float(examples), True),
        ]

    def _expert_blocks(self, state: State, planned: PlannedSum) -> list[Block]:
        counts = self.adaptation.expert_counts
        return [Block(f"affinity.{layer}", (counts[layer],), 1.0, False) for layer in sorted(counts)]

    def _metric_blocks(self, state: State, planned: PlannedSum) -> list[Block]:
        records, tokens = self.plan.evaluation.max_records, self.plan.records.max_tokens
        if self.plan.evaluation.metric != "bits_per_byte":
            return [Block("numerator", (1,), float(records), True), Block("denominator", (1,), float(records), True)]
        return [
            Block("numerator", (1,), BITS_PER_TOKEN * records * tokens, False),
            Block("denominator", (1,), float(BYTES_PER_TOKEN * records * tokens), True),
        ]

    def _apply_update(self, state: State, planned: PlannedSum, total: Values) -> tuple[State, Figures]:
        weights = Weights(float(total["weight"][0]), _expert_weights(state, total))
        deltas = {name.removeprefix("delta."): values for name, values in total.items() if name.startswith("delta.")}
        optimizer = ServerOptimizer.from_plan(self.plan.aggregation)
        moved = [tensor for tensor in self.trained(state, planned) if is_kept(state.pre_round, tensor.expert)]
        after = self.rule.apply(state, deltas, weights, moved, optimizer)
        examples = float(total["examples"][0])
        return after, Figures(loss=float(total["loss"][0]) / examples if examples else None)


def _expert_weights(state: State, total: Values) -> dict[tuple[int, int], float]:
    return {
        (layer, expert): float(total[f"expert_weights.{layer}"][position])
        for layer, chosen in state.experts.items()
        for position, expert in enumerate(chosen)
    }


def _metric(total: Values) -> Figures:
    numerator, denominator = float(total["numerator"][0]), round(float(total["denominator"][0]))
    return Figures(numerator=numerator, denominator=denominator, metric=numerator / denominator if denominator else None)
