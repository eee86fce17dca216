"""Plan and base together: what each of a run's sums holds, lane by lane, and what their totals do to the state.

Nothing about one institution travels outside such a vector: weights, counts and losses are lanes of it. Bounds are a pure
function of plan and round, so that every party computes the same scales.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.aggregation import Rule, ServerOptimizer, ServerStep, Tensor, rebalance, rule_of
from protocols.encoding import Block, LaneLayout, Total
from protocols.errors import RebalanceError
from protocols.parts import Survivors, check_update_set, is_kept, kept_parts, part_blocks, part_counts
from protocols.plan import Plan
from protocols.privacy.lanes import check_lanes
from protocols.schedule import PlannedSum, learning_rate
from protocols.selection import experts_without_choice
from protocols.state import Experts, PreRound, State
from protocols.sums import evaluate, experts, private_update, update
from protocols.sums.figures import Figures


class Adaptation(Protocol):
    """What the plan makes of its base (`model.layout.Adaptation`)."""

    @property
    def expert_counts(self) -> Mapping[int, int]: ...
    def layout(self, experts: Experts) -> Sequence[Tensor]: ...
    def initial(self, experts: Experts) -> dict[str, NDArray[np.float32]]: ...


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
        """Order, shape and scale of every lane of one sum.

        Raises:
            PrivacyError: of a lane of a private run no sensitivity is declared.
        """
        blocks = self._blocks(state, planned)
        if self.plan.privacy is not None:
            check_lanes(blocks)
        return LaneLayout(blocks, self.plan.secure_aggregation.lanes)

    def apply(self, state: State, planned: PlannedSum, total: Total, survivors: Survivors) -> tuple[State, Figures]:
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
            return self._initial(experts.chosen(total, self.adaptation.expert_counts, self.plan.trainable)), Figures()
        return state, evaluate.figures(total)

    def propose(self, state: State, planned: PlannedSum) -> rebalance.Proposal:
        """Re-balanced LoRA factors for the state that a sum led to; empty where none are due. Not the same bits on every machine."""
        return rebalance.propose(state, self.adaptation.layout(state.experts)) if rebalance.is_due(self.plan, planned) else {}

    def adopt(self, state: State, planned: PlannedSum, proposed: rebalance.Proposal) -> State:
        """The state with a proposal in it; an empty one changes nothing.

        Raises:
            RebalanceError: none is due after this sum, or it does not hold.
        """
        if proposed and not rebalance.is_due(self.plan, planned):
            raise RebalanceError(f"the plan re-balances nothing after the {planned.kind} sum of round {planned.round}")
        rebalance.check(state, proposed, self.adaptation.layout(state.experts))
        return rebalance.adopted(state, proposed) if proposed else state

    def token_cap(self) -> int:
        """Tokens that give an institution, or an expert within it, the full weight of 1."""
        training = self.plan.training
        return training.local_steps * training.batch_size * self.plan.records.max_tokens

    def _initial(self, experts: Experts) -> State:
        return State(self.plan.base.sha256, 0, self.adaptation.initial(experts), experts)

    def _blocks(self, state: State, planned: PlannedSum) -> tuple[Block, ...]:
        if planned.kind == "parts":
            return part_blocks(state.experts)
        if planned.kind == "experts":
            return experts.blocks(self.adaptation.expert_counts)
        if planned.kind == "evaluate":
            return evaluate.blocks(self.plan)
        if self.plan.privacy is not None:
            return private_update.blocks(self.plan, planned.round, self.trained(state, planned), state.experts)
        return update.blocks(self.plan.training, learning_rate(self.plan, planned.round), self.trained(state, planned), state.experts)

    def _apply_update(self, state: State, planned: PlannedSum, total: Total) -> tuple[State, Figures]:
        moved = [tensor for tensor in self.trained(state, planned) if is_kept(state.pre_round, tensor.expert)]
        server = ServerStep(ServerOptimizer.from_plan(self.plan.aggregation), self.plan.aggregation.expert_shrinkage)
        deltas = update.deltas(total)
        if self.plan.privacy is not None:
            deltas = private_update.deltas(self.plan, planned.round, self.trained(state, planned), total)
        after = self.rule.apply(state, deltas, update.weights(total, state.experts), moved, server)
        return after, Figures(loss=update.mean_loss(total))
