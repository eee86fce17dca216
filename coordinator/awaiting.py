"""The wait between a submitted plan and its first round: until so many institutions accepted it that every sum can be opened."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.cohort import Cohort
from coordinator.errors import JobError

ASK_AGAIN_SECONDS = 5.0


def await_answers(
    cohort: Cohort, seconds: float, obey: Callable[[], None], clock: Callable[[], float], sleep: Callable[[float], None]
) -> None:
    """Greets institutions until enough of them accepted the plan; a refusal may change, as a person may approve.

    Args:
        seconds: the longest wait; while the operator has the run paused, no time passes.
        obey: returns when the operator wants the run to go on, and raises when it is to stop.

    Raises:
        JobError: the time is over; the sentence names everybody who did not accept, and why. Whatever `obey` raises.
    """
    left = seconds
    while True:
        obey()
        begun = clock()
        cohort.link.members.refresh()
        accepted = set(cohort.greet())
        if cohort.carries(accepted):
            return
        if left <= 0:
            raise JobError(_sentence(cohort, accepted, seconds))
        sleep(min(ASK_AGAIN_SECONDS, left))
        left -= clock() - begun


def _sentence(cohort: Cohort, accepted: set[str], seconds: float) -> str:
    names = [entry.name for entry in cohort.link.roster.entries]
    away = "; ".join(f"{name}: {cohort.link.missing.get(name, 'no answer')}" for name in names if name not in accepted)
    return (
        f"{len(accepted)} of {len(names)} institutions accepted the plan within {seconds:g} s, which are too few for its sums ({away}); "
        "submit it again once they agree"
    )
