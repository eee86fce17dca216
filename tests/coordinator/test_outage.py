"""A database that goes away for half a minute in the middle of a run costs half a minute, and none of its rounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.events import Event, RoundFinished, SumFinished
from coordinator.registry import Registry
from coordinator.registry.states import RunState
from tests.coordinator.postgresql import PostgreSQL, on_postgresql
from tests.federation.federation import Federation, _now, make_plan
from tests.federation.private_plans import SMALL

AWAY, PATIENCE = 30.0, 120.0


class Outage:
    """Stops the server at one event of a run, and starts it when the run has waited long enough."""

    def __init__(self, server: PostgreSQL, at: int) -> None:
        self._server, self._left = server, at
        self.now = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, SumFinished | RoundFinished):
            self._left -= 1
            if self._left == 0:
                self._server.stop()

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now == AWAY:
            self._server.start()


@pytest.mark.slow
@on_postgresql
@pytest.mark.parametrize("at", [2, 3])
def test_run_waits_for_its_database(at: int, location: str, server: PostgreSQL, tmp_path: Path) -> None:
    if server.process is None:
        pytest.skip("the server of CONSORTIUM_DATABASE_URL is not ours to stop")
    made, outage = Federation(tmp_path, make_plan(trainable=SMALL)), Outage(server, at)
    made.registry.close()
    made.registry = Registry.open(location, _now).patient(PATIENCE, outage.sleep, lambda: outage.now)
    try:
        result = made.run(outage)
    finally:
        server.start()
    assert outage.now >= AWAY
    assert made.registry.run(result.run).state is RunState.FINISHED
    assert [one.number for one in made.registry.rounds(result.run)] == [0, 1, 2]
    assert all(part.missing_from is None for one in made.registry.rounds(result.run) for part in one.contributions)
    assert made.registry.verify_chain().length
    made.close()
