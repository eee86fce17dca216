"""Giving up a set that cannot be opened any more: only for a smaller one inside it (`protocols.differencing`).

What was signed may have been opened, so that two totals of the same vectors may be known. Whether an institution signs a further set
is decided by its own policy (`client.promises`); that one was given up stands in the registry's event chain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.cohort import Cohort
from coordinator.events import Event, SetAbandoned
from coordinator.store import RunStore
from protocols.chain import ChainHead
from protocols.differencing import may_follow
from protocols.parts import pre_round_of
from protocols.schedule import PlannedSum
from protocols.state import State

Record = Callable[[str, Mapping[str, Any]], ChainHead]  # kind and body of an event of this run


@dataclass(frozen=True, slots=True)
class Abandoning:
    """What a run needs to give a set up."""

    cohort: Cohort
    store: RunStore
    record: Record
    on_event: Callable[[Event], None]

    def give_up(self, planned: PlannedSum, state: State) -> bool:
        """Whether the set that was proposed for a sum is given up: those left of it may then be proposed; the state is unchanged.

        An update whose parts were counted has one set: in a difference of two an expert may be one institution's.
        """
        journal, colluding = self.store.journal, self.cohort.terms.plan.secure_aggregation.colluding
        if not journal.survivors or pre_round_of(planned, state) is not None:
            return False
        abandoned, left = (*journal.abandoned, journal.survivors), self.cohort.present(state, allowed=journal.survivors)
        if len(left) < self.cohort.fewest or not may_follow(left, abandoned, colluding):
            return False
        self.record("set-abandoned", {"round": planned.round, "sum": planned.kind, "set": list(journal.survivors)})
        self.store.update(survivors=(), abandoned=abandoned, given_up=True)
        self.on_event(SetAbandoned(planned.round, planned.kind, journal.survivors))
        return True
