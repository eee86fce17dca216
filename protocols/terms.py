"""Plan and base together: what each of a run's sums holds, lane by lane, and what their totals do to the state.

Nothing about one institution travels outside such a vector: weights, counts and losses are lanes of it. Bounds are a pure
function of plan and round, so that every party computes the same scales.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protocols import proposals
from protocols.aggregation import Keep, Rule, ServerOptimizer, ServerStep, Tensor, Weights, router_bias, rule_of, scaffold
from protocols.continued import bind_set
from protocols.encoding import Block, LaneLayout, Total
from protocols.parts import Survivors, check_update_set, is_kept, kept_parts, part_blocks, part_counts, pre_round_of
from protocols.plan import Plan
from protocols.privacy.lanes import check_lanes
from protocols.proposals import Proposal
from protocols.ranks import LANE, expert_slices, kept_experts, kept_rank, rank_blocks, with_slices_of
from protocols.schedule import PlannedSum, compares_alone, learning_rate, server_learning_rate
from protocols.scratch import Scratch
from protocols.selection import experts_without_choice
from protocols.state import Experts, PreRound, State, Tensors
from protocols.sums import evaluate, experts, private_update, update
from protocols.sums.figures import Figures


class Adaptation(Protocol):
    """What the plan makes of its base (`model.layout.Adaptation`)."""

    @property
    def expert_counts(self) -> Mapping[int, int]: ...
    @property
    def mtp_modules(self) -> int: ...
    def layout(self, experts: Experts) -> Sequence[Tensor]: ...
    def initial(self, experts: Experts, keep: Keep = ...) -> dict[str, NDArray[np.float32]]: ...


@dataclass(frozen=True, slots=True)
class Terms:
    """Plan and base together: everything that decides how a sum is laid out and applied."""

    plan: Plan
    adaptation: Adaptation
    folder: Path | None = None  # on the disk that has room for new states (`protocols.scratch`); None: they are made in memory

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

    def apply(self, state: State, planned: PlannedSum, total: Total, survivors: Survivors, institutions: int) -> tuple[State, Figures]:
        """The next state and the consortium's figures from a decoded total; bit-equal at every party.

        Args:
            survivors: whom the total is of, from the sum's certificate and epoch.
            institutions: all of the roster.

        Raises:
            FlatRoutingError: the experts' use chooses none.
            PartsError: an update over others than its pre-round allows, or of an epoch whose threshold is too small for it.
        """
        if planned.kind == "parts":
            return replace(state, pre_round=self._pre_round(state.experts, total, survivors)), Figures()
        if planned.kind in ("update", "update-2", "gradient", "gradient-2"):
            check_update_set(pre_round_of(planned, state), survivors)
            after, figures = self._apply_update(state, planned, total, institutions) if planned.kind == "update" else (state, Figures())
            after, more = self.rule.applied(self.plan, after, planned, total, self.adaptation.layout(state.experts))
            return bind_set(self.plan, after, planned, survivors), replace(figures, more={**figures.more, **more})
        if planned.kind == "experts":
            return self._initial(experts.chosen(total, self.adaptation.expert_counts, self.plan.trainable)), Figures()
        return state, evaluate.figures(total)

    def propose(self, state: State, planned: PlannedSum) -> Proposal:
        """See `protocols.proposals.propose`."""
        return proposals.propose(self.plan, planned, state, self.adaptation.layout(state.experts))

    def adopt(self, state: State, planned: PlannedSum, proposed: Proposal) -> State:
        """See `protocols.proposals.adopt`."""
        return proposals.adopt(self.plan, planned, state, self.adaptation.layout(state.experts), proposed)

    def measures_drafts(self, planned: PlannedSum) -> bool:
        """Whether an `evaluate` sum also says how well multi-token prediction drafts, if it is adapted: the first one and the last."""
        return self.adaptation.mtp_modules > 0 and planned.round in (0, self.plan.rounds)

    @property
    def balanced_layers(self) -> Mapping[int, int]:
        """Layers whose routers' selection biases the plan moves, with their number of experts."""
        return self.adaptation.expert_counts if self.plan.trainable.router_bias == "summed-counts" else {}

    def token_cap(self) -> int:
        """Tokens that give an institution, or an expert within it, the full weight of 1."""
        training = self.plan.training
        return training.local_steps * training.batch_size * self.plan.records.max_tokens

    def _initial(self, experts: Experts) -> State:
        return State(self.plan.base.sha256, 0, self.adaptation.initial(experts, Scratch(self.folder).keep), experts)

    def _blocks(self, state: State, planned: PlannedSum) -> tuple[Block, ...]:
        if planned.kind == "parts":
            return (*part_blocks(state.experts, expert_slices(self.plan)), *rank_blocks(self.plan))
        if planned.kind == "experts":
            return experts.blocks(self.adaptation.expert_counts)
        if planned.kind == "evaluate":
            return evaluate.blocks(self.plan, self.measures_drafts(planned), compares_alone(self.plan, planned))
        if self.plan.privacy is not None:
            return private_update.blocks(self.plan, planned.round, self.trained(state, planned), state.experts)
        own = self.rule.lanes(self.plan, state, planned, self.adaptation.layout(state.experts))
        if planned.kind != "update":
            return own
        trained, rate = self.trained(state, planned), learning_rate(self.plan, planned.round)
        return (*update.blocks(self.plan.training, rate, trained, state.experts), *router_bias.blocks(self.balanced_layers), *own)

    def _pre_round(self, experts: Experts, total: Total, survivors: Survivors) -> PreRound:
        rank = kept_rank(total[LANE], survivors) if LANE in total else None
        if rank is not None and expert_slices(self.plan) is not None:
            kept = kept_experts(experts, total, rank, survivors)
        else:
            kept = kept_parts(part_counts(experts, total), survivors)
        return PreRound(kept, tuple(sorted(survivors.members)), survivors.threshold, rank)

    def _apply_update(self, state: State, planned: PlannedSum, total: Total, institutions: int) -> tuple[State, Figures]:
        moved = [tensor for tensor in self.trained(state, planned) if is_kept(state.pre_round, tensor.expert)]
        keep = Scratch(self.folder).keep
        server = ServerStep(
            ServerOptimizer.from_plan(self.plan.aggregation, server_learning_rate(self.plan, planned.round)),
            self.plan.aggregation.expert_shrinkage,
            keep,
        )
        deltas, weights = update.deltas(total), update.weights(total, state.experts)
        if self.plan.privacy is not None:
            deltas = private_update.deltas(self.plan, planned.round, self.trained(state, planned), total)
        after = self.rule.apply(state, deltas, weights, moved, server)
        if self.plan.training.scaffold:
            after = replace(after, controls=self._controls(state, planned, deltas, weights, institutions, keep))
        routed = router_bias.counts(total, self.balanced_layers, self.token_cap())
        after = router_bias.moved(after, routed, self.plan.trainable.router_bias_speed)
        return with_slices_of(state, after, moved), Figures(loss=update.mean_loss(total))

    def _controls(self, state: State, planned: PlannedSum, deltas: Total, weights: Weights, institutions: int, keep: Keep) -> Tensors:
        names, pace = scaffold.controlled(self.trained(state, planned)), scaffold.pace(self.plan, planned.round)
        common, survivors = state.controls, weights.shared
        return scaffold.common_after(common, deltas, names, survivors=survivors, institutions=institutions, pace=pace, keep=keep)
