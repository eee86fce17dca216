"""An institution's local-only model: the plan's training on its own records in every round, and nothing of anyone else's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from client.node import Node, Session
from client.work import LocalUpdate, MetricSums, Work
from protocols.aggregation import router_bias
from protocols.files import make_folder
from protocols.plan import Plan
from protocols.selection import Affinities, experts_without_choice, normalized_affinities, select_experts
from protocols.state import State, load_state, save_state

OnRound = Callable[[int], None]  # rounds done
logger = logging.getLogger("consortium.client")


def measured_alone(node: Node, run: str, session: Session) -> MetricSums:
    """The plan's metric of the local-only model on the own test records.

    Each round of its training is on the institution's own disk when the next one begins, so that a stopped one goes on.
    """
    folder = node.ledger.home / "alone"
    make_folder(folder, 0o700)  # one institution's records can be read out of what was trained on them
    state = train_alone(session.work, session.plan, folder / f"{run}.safetensors", lambda done: _log(run, session.plan, done))
    return session.work.evaluate(state.tensors, state.experts)


def is_worse(shared: MetricSums, alone: MetricSums, higher_is_better: bool) -> bool:
    """Whether the shared model's metric is worse than the local-only one's; equal is not worse, and without records nothing is."""
    if not shared.denominator or not alone.denominator:
        return False
    gain = shared.numerator / shared.denominator - alone.numerator / alone.denominator
    return gain < 0 if higher_is_better else gain > 0


def train_alone(work: Work, plan: Plan, path: Path, on_round: OnRound, steps: int | None = None) -> State:
    """The state after the plan's last round, with the experts that the own records choose.

    Every tensor is trained in each round, whatever the federation's rule alternates.

    Args:
        path: file of the state after each round; training goes on from it.
        steps: of a round, if not the plan's `local_steps`.

    Raises:
        StateError: the file is damaged.
    """
    state = load_state(path) if path.exists() else state_with(work, plan, own_affinities(work, plan))
    for number in range(state.round + 1, plan.rounds + 1):
        update = work.train_alone(number, state.tensors, state.experts, steps)
        tensors = {name: values + update.delta[name] for name, values in state.tensors.items()}
        state = _balanced(plan, State(state.base_sha256, number, tensors, state.experts), update)
        save_state(state, path)
        on_round(number)
    return state


def own_affinities(work: Work, plan: Plan) -> Affinities | None:
    """How much the institution's own records use each expert; None where the plan does not choose by that."""
    return normalized_affinities(work.expert_affinity()) if plan.trainable.experts.startswith("esft") else None


def state_with(work: Work, plan: Plan, affinities: Affinities | None) -> State:
    """The public starting point with the experts that these affinities choose, or the plan without any."""
    trainable, adaptation = plan.trainable, work.adaptation
    if affinities is not None:
        experts = select_experts(affinities, trainable.expert_top_p)
    else:
        experts = dict(experts_without_choice(trainable.experts, adaptation.expert_counts))
    return State(work.base_sha256, 0, adaptation.initial(experts), experts)


def _balanced(plan: Plan, state: State, update: LocalUpdate) -> State:
    """With the routers' biases moved by the own load, where the plan moves them by the load of all."""
    moves = plan.trainable.router_bias == "summed-counts"
    return router_bias.moved(state, update.expert_tokens, plan.trainable.router_bias_speed) if moves else state


def _log(run: str, plan: Plan, done: int) -> None:
    logger.info("run %s: local-only model to compare with, round %d of %d trained", run, done, plan.rounds)
