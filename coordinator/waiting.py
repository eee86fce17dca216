"""What a run does when it cannot go on now: it waits for the operator's word, or for institutions to come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coordinator.errors import RunStopped, Shortage, Unaccepted
from coordinator.events import Event, RunPaused, RunResumed
from coordinator.registry.records import Run
from coordinator.registry.registry import Registry
from coordinator.registry.states import RunState, WantedState

PAUSE_SECONDS = 1.0
MOST_VAIN = 6  # attempts at a sum that fail in a row although enough institutions are there, each after a pause twice as long
BY_OPERATOR = "the operator paused it"  # the reason of a run that rests by the operator's word
_IN_VAIN = "resume it when that is put right"  # how the reason ends of one that rests until the operator's word


@dataclass(frozen=True, slots=True)
class Waiting:
    """One run's waiting; the registry shows why as long as it lasts."""

    run: str
    registry: Registry
    sleep: Callable[[float], None]
    on_event: Callable[[Event], None]

    def obey_operator(self) -> None:
        """Waits while the operator wants the run paused; asked between sums, so that no opened sum is left half-way.

        Raises:
            RunStopped: the operator wants it stopped.
        """
        while (run := self.registry.run(self.run)).wanted is not WantedState.RUNNING:
            if run.wanted is WantedState.STOPPED:
                raise stopped(self.run)
            self._pause(BY_OPERATOR)
            self.sleep(PAUSE_SECONDS)
        self._resume()

    def until_done(self, attempt: Callable[[], None], lacking: Callable[[], str], every: float | None) -> None:
        """Attempts until there is no shortage; between attempts it waits for institutions, looking every so many seconds.

        What fails again and again although enough are there is attempted ever more seldom, and then when the operator says so; where
        people have to accept an identity first, it is attempted ever more seldom and goes on.

        Args:
            lacking: whom an attempt would lack now, in a sentence; empty if it can begin.

        Raises:
            Shortage: `every` is None. Whatever else an attempt raises, and RunStopped.
        """
        vain = 0
        while (shortage := _shortage_of(attempt)) is not None:
            if every is None:
                raise shortage
            away = self._for_institutions(shortage, lacking, every, pauses=2**vain - 1)
            vain = 0 if away else min(vain + 1, MOST_VAIN - isinstance(shortage, Unaccepted))
            if vain == MOST_VAIN:
                self._for_operator(shortage)
                vain = 0

    def _for_institutions(self, shortage: Shortage, lacking: Callable[[], str], every: float, pauses: int) -> bool:
        """Waits so many times, then until enough institutions are back; False if they were there at the first look."""
        self._pause(str(shortage))
        left, away = pauses, False
        while left or (reason := lacking()):
            if away:  # at the first look it is what was said just now
                self._say(reason)
            left, away = max(left - 1, 0), not left
            self.sleep(every)
            if self.registry.run(self.run).wanted is not WantedState.RUNNING:
                break
        self.obey_operator()
        return away

    def _for_operator(self, shortage: Shortage) -> None:
        # The reason first, as it is told once; and what the operator wants meanwhile counts, a stop above all.
        self._pause(f"{shortage}; it failed {MOST_VAIN} times although enough were there, {_IN_VAIN}")
        self.registry.set_wanted(self.run, WantedState.PAUSED, instead_of=WantedState.RUNNING)
        self.obey_operator()

    def _pause(self, reason: str) -> None:
        if self.registry.run(self.run).state is RunState.RUNNING:
            self.registry.set_state(self.run, RunState.PAUSED, reason)
            self.on_event(RunPaused(self.run, reason))

    def _say(self, reason: str) -> None:
        """Another reason of a run that waits, as who is away has changed; what stands there already is not written again."""
        run = self.registry.run(self.run)
        if run.state is RunState.PAUSED and reason not in run.reason:
            self.registry.set_state(self.run, RunState.RUNNING)
            self._pause(reason)

    def _resume(self) -> None:
        if self.registry.run(self.run).state is RunState.PAUSED:
            self.registry.set_state(self.run, RunState.RUNNING)
            self.on_event(RunResumed(self.run))


def is_at_rest(run: Run) -> bool:
    """Whether a run waits for the operator's word alone."""
    return run.state is RunState.PAUSED and (run.reason == BY_OPERATOR or run.reason.endswith(_IN_VAIN))


def outlook(run: Run) -> str:
    """Why a run is where it is and, of a paused one, who ends that; empty where there is nothing to say."""
    if run.state is not RunState.PAUSED:
        return run.reason
    word = f"it rests until `consortium coordinator resume {run.run}`" if is_at_rest(run) else "it tries again by itself"
    return f"{run.reason}; {word}"


def stopped(run: str) -> RunStopped:
    """What ends a run that the operator wants stopped."""
    return RunStopped(f"run {run} was stopped by the operator; submit the plan again, with another seed, to start anew")


def _shortage_of(attempt: Callable[[], None]) -> Shortage | None:
    try:
        attempt()
    except Shortage as shortage:
        return shortage
    return None
