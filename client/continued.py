"""What an institution puts into the lanes that only some rules have: sketches of its factors, and of its first gradient."""

from __future__ import annotations

import numpy as np

from client.work import LocalUpdate, Work
from protocols.aggregation import fedsb, sketched
from protocols.aggregation.sketches import Array
from protocols.schedule import PlannedSum, is_continued, largest_step, learning_rate
from protocols.state import State, Tensors
from protocols.terms import Terms


def trained_factors(delta: Tensors, terms: Terms, state: State, planned: PlannedSum) -> Tensors:
    """The factors after training that a second sum will ask for, when the state has moved on; none where no second one follows."""
    if not is_continued(terms.plan, "update"):
        return {}
    step = largest_step(terms.plan.training, learning_rate(terms.plan, planned.round))
    return sketched.trained_factors(sketched.modules_of(terms.plan, terms.adaptation.layout(state.experts)), state.tensors, delta, step)


def sketches_of(update: LocalUpdate, weight: float, terms: Terms, state: State, planned: PlannedSum) -> dict[str, Array]:
    """Lanes beside those of the update."""
    if not is_continued(terms.plan, planned.kind):
        return {}
    found = sketched.modules_of(terms.plan, terms.adaptation.layout(state.experts))
    return sketched.sketches(terms.plan, found, planned.round, update.factors, weight)


def cores_of(update: LocalUpdate, weight: float, terms: Terms, state: State) -> dict[str, Array]:
    """Lanes of the sum after the update."""
    found = sketched.modules_of(terms.plan, terms.adaptation.layout(state.experts))
    return {**sketched.cores(found, state.basis, update.factors, weight), "weight": np.array([weight])}


def gradients_of(work: Work, terms: Terms, state: State, planned: PlannedSum) -> dict[str, Array]:
    """Lanes of the sums that find the bases of Fed-SB; the second one sketches again, for the norm that both are divided by."""
    sketches = work.gradient_sketch(state.tensors, state.experts, fedsb.omegas(terms.plan, terms.adaptation.layout(state.experts)))
    norm = fedsb.sketch_norm(sketches)
    if planned.kind == "gradient":
        return fedsb.scaled("gradient", sketches, norm)
    return fedsb.scaled("core", work.gradient_core(state.tensors, state.experts, fedsb.ranges(state)), norm)
