"""What a run does when it cannot go on now: it waits for the operator's word, or for institutions to come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coordinator.errors import RunStopped, Shortage
from coordinator.events import Event, RunPaused, RunResumed
from coordinator.registry.registry import Registry
from coordinator.registry.states import RunState, WantedState

PAUSE_SECONDS = 1.0
BY_OPERATOR = "the operator paused it"  # the reason of a run that rests by the operator's word


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
                raise RunStopped(f"run {self.run} was stopped by the operator; submit the plan again, with another seed, to start anew")
            self._pause(BY_OPERATOR)
            self.sleep(PAUSE_SECONDS)
        self._resume()

    def for_institutions(self, shortage: Shortage, can_begin: Callable[[], bool], every: float) -> None:
        """Waits until enough institutions are back, looking every so many seconds; the operator's word counts meanwhile."""
        self._pause(str(shortage))
        while not can_begin():
            self.sleep(every)
            if self.registry.run(self.run).wanted is not WantedState.RUNNING:
                return self.obey_operator()
        return self._resume()

    def _pause(self, reason: str) -> None:
        if self.registry.run(self.run).state is RunState.RUNNING:
            self.registry.set_state(self.run, RunState.PAUSED, reason)
            self.on_event(RunPaused(self.run, reason))

    def _resume(self) -> None:
        if self.registry.run(self.run).state is RunState.PAUSED:
            self.registry.set_state(self.run, RunState.RUNNING)
            self.on_event(RunResumed(self.run))
