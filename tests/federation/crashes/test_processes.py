"""Two coordinators on one run, and one that comes back when an epoch is used up."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.errors import LeaseHeld
from coordinator.events import EpochCertified, StageFinished
from tests.federation.crashes.checks import check
from tests.federation.crashes.lives import NO_EXPERTS, PLAN, lived
from tests.federation.crashes.test_coordinator_lines import dying
from tests.federation.federation import Crash, Federation, make_plan


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


def test_run_that_goes_on_after_another_one_shows_no_shorter_event_chain(disk: Path) -> None:
    def run_another(directory: Path) -> None:
        other = Federation(directory, make_plan(rounds=1, trainable=NO_EXPERTS, seed=7))
        other.run()
        other.close()

    with lived(dying(disk, "00001-update-1/uploads/1 within"), run_another) as run:
        check(run)
        assert len(run.federation.registry.runs()) == 2


def test_head_that_was_taken_on_trust_is_gone_on_from(disk: Path) -> None:
    """Nobody had seen a head when the coordinator died; the second life's first manifest is the first one's."""
    with lived(dying(disk, "evaluate.sum .* number 1", party="ada")) as run:
        check(run)
        assert not run.federation.of(EpochCertified), "another epoch was set up"


def _die_at_uploads(event: object) -> None:
    if isinstance(event, StageFinished) and event.stage == "train.sum":
        raise Crash
