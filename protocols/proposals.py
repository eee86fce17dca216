"""What the coordinator proposes beside a total: QR and SVD differ between machines, so nodes check its bytes and adopt them.

Arrays of a proposal are named as `protocols.state.state_arrays` names those of a state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from protocols.aggregation import fedsb, rebalance, sketched, sketches
from protocols.aggregation.base import Tensor
from protocols.errors import ProposalError
from protocols.plan import Plan
from protocols.schedule import PlannedSum
from protocols.state import State, with_arrays

Proposal = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class _Kind:
    """What may follow a sum: how it is made, what must hold of it (or ProposalError), and the state with it."""

    propose: Callable[[State], Proposal]
    check: Callable[[State, Proposal], None]
    adopted: Callable[[State, Proposal], State]


def propose(plan: Plan, planned: PlannedSum, state: State, layout: Sequence[Tensor]) -> Proposal:
    """The proposal for the state that a sum led to; empty where none is due. Not the same bits on every machine."""
    kind = _due(plan, planned, layout)
    return kind.propose(state) if kind else {}


def adopt(plan: Plan, planned: PlannedSum, state: State, layout: Sequence[Tensor], proposed: Proposal) -> State:
    """The state with a proposal in it.

    Raises:
        ProposalError: none is due after this sum, or it does not hold.
    """
    kind = _due(plan, planned, layout)
    if kind is None:
        if proposed:
            raise ProposalError(f"the plan has nothing proposed after the {planned.kind} sum of round {planned.round}")
        return state
    kind.check(state, proposed)
    return kind.adopted(state, proposed)


def _due(plan: Plan, planned: PlannedSum, layout: Sequence[Tensor]) -> _Kind | None:
    after = (plan.aggregation.rule, planned.kind)
    if after in (("sketched", "update"), ("fedsb", "gradient")):
        return _Kind(sketches.propose_ranges, sketches.check_ranges, with_arrays)
    if after == ("sketched", "update-2"):
        make, check = partial(sketched.propose_factors, plan, layout), partial(sketched.check_factors, plan, layout)
        return _Kind(make, check, sketched.adopt_factors)
    if after == ("fedsb", "gradient-2"):
        return _Kind(partial(fedsb.propose_bases, plan, layout), partial(fedsb.check_bases, plan, layout), fedsb.adopt_bases)
    if rebalance.is_due(plan, planned):
        return _Kind(partial(rebalance.propose, layout=layout), partial(rebalance.check, layout=layout), with_arrays)
    return None
