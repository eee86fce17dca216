"""A round played with peers who send the same: every sum is the institution's own vector, times the number of members."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from client.node import Node, Session
from client.personal import PersonalFiles
from client.rehearsal.cohort import RehearsalCohort
from client.rehearsal.node import RUN
from client.sums import compute_vector
from protocols.encoding import LaneLayout, decode
from protocols.participation import institutions_of
from protocols.schedule import PlannedSum, planned_sums
from protocols.state import state_hash
from protocols.sums.figures import Figures

ROUND = 1  # after round 0, which measures the base and chooses what is adapted


@dataclass(frozen=True, slots=True)
class PlayedSum:
    """One sum: the own lanes, and where the run stands before and after it."""

    planned: PlannedSum
    lanes: LaneLayout
    vector: NDArray[np.uint32]
    before: Session
    after: Session
    figures: Figures


def play(node: Node, session: Session, cohort: RehearsalCohort, on_sum: Callable[[PlannedSum], None]) -> Iterator[PlayedSum]:
    """Every sum up to the end of the first round; `on_sum` is told before each."""
    for planned in planned_sums(session.plan):
        if planned.round > ROUND:
            return
        on_sum(planned)
        lanes = session.terms.lanes(session.state, planned)
        vector = compute_vector(node, RUN, session, planned, len(cohort.members(planned)))
        after, figures = _applied(session, cohort, planned, lanes, vector)
        if planned.kind == "update":
            PersonalFiles(node.ledger.home, RUN).settle(planned.round, True)
        yield PlayedSum(planned, lanes, vector, session, after, figures)
        session = after


def _applied(
    session: Session, cohort: RehearsalCohort, planned: PlannedSum, lanes: LaneLayout, vector: NDArray[np.uint32]
) -> tuple[Session, Figures]:
    survivors, terms, members = cohort.survivors(planned), session.terms, len(cohort.members(planned))
    total = decode(vector * np.uint32(members), lanes, members)
    after, figures = terms.apply(session.state, planned, total, survivors, institutions_of(session.plan, members))
    after = terms.adopt(after, planned, terms.propose(after, planned))
    return replace(session, state=after, state_hash=state_hash(after), finished=session.finished + 1), figures
