"""Simulated peers: as many institutions as the roster lists, or as the plan needs, who all send what this one sends."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from protocols.epoch import check_threshold, threshold
from protocols.errors import ThresholdError
from protocols.participation import members_of, too_small
from protocols.parts import Survivors
from protocols.plan import Plan
from protocols.schedule import PlannedSum


@dataclass(frozen=True, slots=True)
class RehearsalCohort:
    """Institution and peers. Peers' names follow its own, so that it is in the first batch."""

    plan: Plan
    name: str
    size: int

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *(f"{self.name}-peer-{number:04d}" for number in range(1, self.size)))

    def members(self, planned: PlannedSum) -> tuple[str, ...]:
        """Of whom a sum is."""
        return members_of(self.plan, self.names, planned.round, planned.kind)

    def survivors(self, planned: PlannedSum) -> Survivors:
        """Nobody drops out."""
        members, colluding = self.members(planned), self.plan.secure_aggregation.colluding
        return Survivors(members, threshold(len(members), colluding), colluding)


def rehearsal_cohort(plan: Plan, name: str, institutions: int) -> RehearsalCohort:
    """A cohort of so many `institutions`, or of the fewest more that carry the plan's sums."""
    needed = plan.participation.batches * max(plan.secure_aggregation.min_institutions, plan.participation.quorum)
    return RehearsalCohort(plan, name, next(size for size in count(max(institutions, needed)) if _carries(plan, size)))


def _carries(plan: Plan, size: int) -> bool:
    colluding = plan.secure_aggregation.colluding
    try:
        check_threshold(size, colluding, threshold(size, colluding))
    except ThresholdError:
        return False
    return too_small(plan, size) is None
