"""The life of a run: submitted → accepting → running ⇄ paused → finished | failed | stopped."""

from __future__ import annotations

from enum import Enum, StrEnum

from coordinator.errors import IllegalTransition


class RunState(Enum):
    """Where a run is."""

    SUBMITTED = "submitted"
    ACCEPTING = "accepting"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def ended(self) -> bool:
        return not NEXT[self]


class WantedState(Enum):
    """Where the operator wants a run to be; the job reads it between stages."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class JoinState(StrEnum):
    """Where a request to join is."""

    WAITING = "waiting"
    APPROVED = "approved"
    REFUSED = "refused"


_UNTIMELY = frozenset({RunState.FAILED, RunState.STOPPED})

NEXT: dict[RunState, frozenset[RunState]] = {
    RunState.SUBMITTED: _UNTIMELY | {RunState.ACCEPTING},
    RunState.ACCEPTING: _UNTIMELY | {RunState.RUNNING},
    RunState.RUNNING: _UNTIMELY | {RunState.PAUSED, RunState.FINISHED},
    RunState.PAUSED: _UNTIMELY | {RunState.RUNNING},
    RunState.FINISHED: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.STOPPED: frozenset(),
}


def check_transition(run: str, before: RunState, after: RunState) -> None:
    """Raises IllegalTransition unless `before` leads to `after`."""
    if after in NEXT[before]:
        return
    ways = ", ".join(sorted(state.value for state in NEXT[before])) or "nothing; submit the plan as a new run"
    raise IllegalTransition(f"run {run} is {before.value} and cannot become {after.value}; from here it can become {ways}")
