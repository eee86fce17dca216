"""Sums that continue another are of exactly its set: in their difference one institution alone could stand.

A sketch and what is projected on it are linear in the same products: of two sets that differ in one institution, the totals
would tell its part of the sketch. The set is kept where a pre-round's is, with its whole size as the threshold.
"""

from __future__ import annotations

from dataclasses import replace

from protocols.parts import Survivors
from protocols.plan import Plan
from protocols.schedule import PlannedSum, has_pre_round, is_continued
from protocols.state import PreRound, State


def bind_set(plan: Plan, after: State, planned: PlannedSum, survivors: Survivors) -> State:
    """The state after a sum, with the only set that may continue it; once that is done, sets are free again."""
    if is_continued(plan, planned.kind):
        kept, rank = ({}, None) if after.pre_round is None else (after.pre_round.kept, after.pre_round.rank)
        members = tuple(sorted(survivors.members))
        return replace(after, pre_round=PreRound(kept, members, len(members), rank))
    if planned.kind.endswith("-2") and not has_pre_round(plan):
        return replace(after, pre_round=None)
    return after
