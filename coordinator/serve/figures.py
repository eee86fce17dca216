"""What Prometheus is told of an operator's side: read from the registry and from the supervisor whenever it asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from coordinator.errors import RegistryError
from coordinator.registry.records import Round, Run
from coordinator.registry.registry import Registry
from coordinator.registry.states import RunState
from coordinator.serve.places import Places
from coordinator.serve.stage_times import read_times
from coordinator.serve.supervisor import Supervisor
from protocols.metrics import Collector, Metric, counter, gauge, summary

MOST_RUNS = 20  # the newest, beside all that go on


@dataclass(frozen=True, slots=True, eq=False)
class Figures(Collector):
    """`superlink_up` asks the SuperLink whether it answers."""

    registry: Registry
    places: Places
    supervisor: Supervisor
    superlink_up: Callable[[], bool]

    def collect(self) -> Iterator[Metric]:
        yield gauge("superlink_up", "Whether the SuperLink answers.", {(): self.superlink_up()})
        yield counter("child_starts", "How often a process was started.", _starts(self.supervisor), "process")
        try:
            of_registry = [*self._of_runs(), self._participants()]
        except RegistryError:
            of_registry = []
        yield gauge("registry_up", "Whether the registry can be read.", {(): bool(of_registry)})
        yield from of_registry

    def _of_runs(self) -> Iterator[Metric]:
        runs = self.registry.runs()
        states = Counter(run.state for run in runs)
        yield gauge("runs", "Runs by state.", {(state.value,): states[state] for state in RunState}, "state")
        shown = [run for number, run in enumerate(runs) if not run.state.ended or number >= len(runs) - MOST_RUNS]
        yield gauge("run_rounds_planned", "Rounds of the plan.", {(run.run,): run.rounds for run in shown}, "run")
        rounds = {run.run: done for run in shown if (done := self.registry.rounds(run.run))}
        yield from _of_rounds(rounds)
        yield self._stages(shown)

    def _stages(self, shown: list[Run]) -> Metric:
        times = {run.run: read_times(self.places.stage_times(run.run)) for run in shown}
        values = {(run, stage): value for run, stages in times.items() for stage, value in stages.items()}
        return summary("stage_seconds", "Seconds of the stages of a run's sums.", values, "run", "stage")

    def _participants(self) -> Metric:
        known = Counter("active" if one.revoked_at is None else "revoked" for one in self.registry.participants())
        values = {(state,): known[state] for state in ("active", "revoked")}
        return gauge("participants", "Institutions that were approved.", values, "state")


def _of_rounds(rounds: Mapping[str, tuple[Round, ...]]) -> Iterator[Metric]:
    last = {run: done[-1] for run, done in rounds.items()}
    yield gauge("run_round", "The last finished round.", {(run,): one.number for run, one in last.items()}, "run")
    yield gauge("round_seconds", "How long the last round took.", {(run,): one.seconds for run, one in last.items()}, "run")
    present = {(run, "present"): one.institutions for run, one in last.items()}
    missing = {(run, "missing"): len(one.missing) for run, one in last.items()}
    yield gauge("round_institutions", "Institutions of the last round.", present | missing, "run", "state")
    up = {(run, "up"): sum(one.bytes_up for one in done) for run, done in rounds.items()}
    down = {(run, "down"): sum(one.bytes_down for one in done) for run, done in rounds.items()}
    yield counter("run_bytes", "Bytes of messages in finished rounds; up is from institutions.", up | down, "run", "direction")


def _starts(supervisor: Supervisor) -> Mapping[tuple[str, ...], float]:
    return {(name,): count for name, count in supervisor.starts.items()}
