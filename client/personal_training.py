"""A round's training with what an institution keeps to itself: shared and private parts learn together, the shared part leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from client.checkpoints import CheckpointOf
from client.node import Node, Session
from client.personal import Personal, PersonalFiles
from client.work import LocalUpdate, Work
from protocols.aggregation import scaffold
from protocols.errors import UpdateError
from protocols.plan import Plan
from protocols.schedule import PlannedSum
from protocols.state import Experts, State
from protocols.terms import Terms


def train_and_keep(node: Node, run: str, session: Session, planned: PlannedSum) -> LocalUpdate:
    """The round's training as it may leave; what stays is on the institution's own disk before this returns.

    Raises:
        UpdateError: what was trained does not fit the plan.
    """
    if not keeps_something(session.plan):
        return _train(session, planned, Personal(), node.checkpoints.of_run(run))[0]
    files = PersonalFiles(node.ledger.home, run)
    before = files.newest(planned.round - 1) or begin(session.work, session.terms, session.state)
    update, after = _train(session, planned, before, node.checkpoints.of_run(run))
    files.keep(planned.round, after)
    return update


def measured_state(node: Node, run: str, session: Session, planned: PlannedSum) -> State:
    """The state that a sum's work reads."""
    if planned.kind != "evaluate" or not has_own_model(session.plan):
        return session.state
    kept = PersonalFiles(node.ledger.home, run).newest(planned.round) or Personal()
    return as_measured(session.terms, session.state, kept)


def as_measured(terms: Terms, state: State, personal: Personal) -> State:
    """What `evaluate` measures: the shared model, or under a rule with private tensors each institution's own."""
    names = {tensor.name for tensor in terms.rule.private(terms.adaptation.layout(state.experts))}
    own = {name: values for name, values in personal.tensors.items() if name in names}
    return replace(state, tensors={**state.tensors, **own}) if own else state


def own_model(state: State, personal: Personal) -> State:
    """The shared state with an institution's private tensors and experts in it: the model that is its own."""
    return replace(state, tensors={**state.tensors, **personal.tensors}, experts=_together(state.experts, personal.experts))


def keeps_something(plan: Plan) -> bool:
    """Whether a run leaves anything at an institution beside the shared state."""
    return plan.training.scaffold or has_own_model(plan)


def has_own_model(plan: Plan) -> bool:
    """Whether an institution's model of a run differs from the shared one."""
    return plan.aggregation.rule == "fedsa" or plan.personalisation.private_experts > 0


def begin(work: Work, terms: Terms, state: State) -> Personal:
    """What is private before the first round: private tensors at their public start, experts chosen by own affinity."""
    count = terms.plan.personalisation.private_experts
    experts = choose_private(work.expert_affinity(), state.experts, count) if count else {}
    initial = terms.adaptation.initial(_together(state.experts, experts))
    return Personal({name: initial[name] for name in _private_names(terms, state, experts)}, experts)


def choose_private(affinity: Mapping[int, NDArray[np.float64]], common: Experts, count: int) -> Experts:
    """In each layer the `count` experts of the largest affinity that the consortium did not choose; ties go to the lower number."""
    orders = {layer: np.argsort(-values, kind="stable").tolist() for layer, values in affinity.items()}
    left = {layer: [expert for expert in order if expert not in common.get(layer, ())] for layer, order in orders.items()}
    return {layer: tuple(sorted(order[:count])) for layer, order in sorted(left.items()) if order}


def _train(session: Session, planned: PlannedSum, before: Personal, checkpoint: CheckpointOf | None) -> tuple[LocalUpdate, Personal]:
    trained = session.terms.trained(session.state, planned)
    names = [tensor.name for tensor in trained]
    start, controls = own_model(session.state, before), session.state.controls
    controlled = scaffold.controlled(trained) if session.plan.training.scaffold else ()
    corrections = scaffold.corrections(controls, before.controls, controlled)
    update = session.work.train(planned.round, start.tensors, [*names, *before.tensors], start.experts, corrections or None, checkpoint)
    _check_shapes(update, {**{t.name: t.shape for t in trained}, **{name: values.shape for name, values in before.tensors.items()}})
    after = Personal(
        {name: values + update.delta[name] for name, values in before.tensors.items()},
        before.experts,
        scaffold.own_after(controls, before.controls, update.delta, controlled, scaffold.pace(session.plan, planned.round)),
    )
    return replace(update, delta={name: update.delta[name] for name in names}), after


def _check_shapes(update: LocalUpdate, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        if name not in update.delta or update.delta[name].shape != shape:
            raise UpdateError(f"training returned no delta of shape {shape} for {name}; base and plan do not fit this version")


def _private_names(terms: Terms, state: State, experts: Experts) -> list[str]:
    """The rule's private tensors, and all of private experts."""
    layout = terms.adaptation.layout(_together(state.experts, experts))
    of_rule = {tensor.name for tensor in terms.rule.private(terms.adaptation.layout(state.experts))}
    return [t.name for t in layout if t.name in of_rule or (t.expert is not None and t.expert[1] in experts.get(t.expert[0], ()))]


def _together(common: Experts, private: Experts) -> Experts:
    return {layer: tuple(sorted({*common.get(layer, ()), *private.get(layer, ())})) for layer in sorted({*common, *private})}
