"""One process for each run that has not ended: started when there is room, started again when it dies."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

from coordinator.registry.records import Run
from coordinator.registry.registry import Registry
from coordinator.serve.places import Places
from protocols.child import Child, Program


class RunProcesses:
    """The processes of runs, by the run's id."""

    def __init__(self, places: Places, registry: Registry, environment: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._places = places
        self._registry = registry
        self._environment = environment
        self._say = say
        self._children: dict[str, Child] = {}

    def tend(self) -> None:
        """Starts what is missing, in the order of submission, and forgets what has ended."""
        runs = [run for run in self._registry.runs() if not run.state.ended]
        self._forget({run.run for run in runs})
        for run in runs[: self._places.home.settings.serve.max_runs]:
            self._child(run).tend()

    def stop(self) -> None:
        """Ends all; each run goes on from its journal when it is served again."""
        for child in self._children.values():
            child.stop(self._places.home.settings.serve.stop_seconds)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by run."""
        return {name: child.pid for name, child in self._children.items() if child.pid is not None}

    @property
    def starts(self) -> dict[str, int]:
        """How often each was started, by run."""
        return {name: child.starts for name, child in list(self._children.items())}

    def _child(self, run: Run) -> Child:
        if run.run not in self._children:
            home = str(self._places.home.folder.resolve())
            line = (sys.executable, "-P", "-m", "coordinator.run_process", "--home", home, "--run", run.run)
            program = Program(f"the process of run {run.run}", line, self._environment, self._places.log(run.run))
            self._children[run.run] = Child(program, time.monotonic, self._say)
        return self._children[run.run]

    def _forget(self, going_on: set[str]) -> None:
        for name in self._children.keys() - going_on:
            if not self._children[name].running:  # it still tells the institutions that the run is over
                del self._children[name]
