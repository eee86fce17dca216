"""Two coordinators on one run, and one that comes back when an epoch is used up."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.errors import LeaseHeld
from coordinator.events import StageFinished
from tests.federation.crashes.checks import check
from tests.federation.crashes.lives import PLAN, lived
from tests.federation.crashes.test_coordinator_lines import dying
from tests.federation.federation import Crash, Federation


def test_second_coordinator_asks_nothing(disk: Path) -> None:
    first = Federation(disk, PLAN, keep_messages=True)
    with pytest.raises(Crash):
        first.run(_die_at_uploads)
    (run,) = first.registry.runs()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    first.registry.take_lease(run.run, f"process {other.pid} on {socket.gethostname()}", 1000)
    asked, journal = len(first.messages), next(disk.glob("runs/*/journal.json")).read_bytes()
    with pytest.raises(LeaseHeld, match="driven by process"):
        first.run()
    assert len(first.messages) == asked and next(disk.glob("runs/*/journal.json")).read_bytes() == journal
    other.communicate(b"\n")
    assert first.run().run == run.run
    first.close()


@pytest.mark.parametrize("slots", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("where", ["manifest before", "transcript before"])
def test_epoch_whose_last_slot_is_used(disk: Path, where: str, slots: int) -> None:
    with lived(dying(disk, f"00001-update-1/{where}"), slots=slots) as run:
        check(run)
        assert run.points.where == ""


def _die_at_uploads(event: object) -> None:
    if isinstance(event, StageFinished) and event.stage == "train.sum":
        raise Crash
