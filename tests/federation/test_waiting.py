"""A run that cannot go on waits: for institutions that are away, and for the operator's word."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator.errors import RunStopped
from coordinator.events import Event, RoundFinished, RunPaused, RunResumed, SumFinished
from coordinator.registry.records import Run
from coordinator.registry.states import RunState, WantedState
from protocols.state import state_hash
from tests.federation.federation import Federation, make_plan


@dataclass
class Weekend:
    """Institutions that are away for a while; `on_sleep` is called whenever the run waits."""

    federation: Federation
    away: set[str]
    do: Callable[[Run], None]

    def start(self) -> None:
        self.federation.fails = lambda name, _: name in self.away
        self.federation.means = {"patience": 30.0, "sleep": lambda _: self.do(self.federation.registry.runs()[0])}


@pytest.fixture
def weekend(tmp_path: Path) -> Iterator[Weekend]:
    federation = Federation(tmp_path, make_plan())
    yield Weekend(federation, set(), lambda _: None)
    federation.close()


def test_a_run_waits_for_institutions_and_goes_on_when_they_are_back(weekend: Weekend, tmp_path: Path) -> None:
    seen: list[Run] = []

    def leave_after_the_first_round(event: Event) -> None:
        if isinstance(event, RoundFinished) and event.round == 0:
            weekend.away |= {"ada", "bea"}

    def come_back(run: Run) -> None:
        seen.append(run)
        weekend.away.clear()

    weekend.do = come_back
    weekend.start()
    result = weekend.federation.run(leave_after_the_first_round)
    (waiting,) = seen
    assert waiting.state is RunState.PAUSED
    assert "ada" in waiting.reason
    assert "bea" in waiting.reason
    assert [type(event) for event in weekend.federation.events if isinstance(event, RunPaused | RunResumed)] == [RunPaused, RunResumed]
    assert weekend.federation.registry.run(result.run).state is RunState.FINISHED
    undisturbed = Federation(tmp_path / "undisturbed", weekend.federation.plan)
    assert state_hash(undisturbed.run().state) == state_hash(result.state)
    undisturbed.close()


def test_a_waiting_run_obeys_the_operator(weekend: Weekend) -> None:
    def stop(run: Run) -> None:
        weekend.federation.registry.set_wanted(run.run, WantedState.STOPPED)

    weekend.away = {"ada", "bea"}
    weekend.do = stop
    weekend.start()
    with pytest.raises(RunStopped):
        weekend.federation.run()
    (run,) = weekend.federation.registry.runs()
    assert run.state is RunState.STOPPED


def test_a_set_that_was_proposed_waits_for_no_more_than_open_it(weekend: Weekend) -> None:
    slept: list[str] = []

    def come_back(run: Run) -> None:
        slept.append(run.reason)
        weekend.away.discard("cyd")
        assert len(slept) < 3, "dov does not come back, and three of the four open the sum"

    weekend.away, weekend.do = {"cyd", "dov"}, come_back
    weekend.start()
    opening: list[bool] = []

    def fails(name: str, stage: str) -> bool:
        opening.extend([True] if stage == "query.unmask" else [])
        return name in weekend.away and bool(opening)

    weekend.federation.fails = fails
    weekend.federation.run()
    assert len(weekend.federation.of(SumFinished)[0].institutions) == 4
