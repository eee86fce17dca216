"""A simulation that is killed goes on; a finished one is reported again; another is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.errors import RecordError
from consortium import simulate
from consortium.errors import SimulationError
from coordinator.events import RoundFinished
from tests.consortium.small_notes import write_plan


class Killed(BaseException):
    """The process dies here."""


def _kill_after(number: int) -> object:
    def watch(event: object) -> None:
        if isinstance(event, RoundFinished) and event.round == number:
            raise Killed

    return watch


@pytest.mark.slow
def test_a_killed_simulation_goes_on_to_the_same_figures(tmp_path: Path) -> None:
    plan = write_plan(tmp_path)
    whole = simulate(plan, tmp_path / "whole", baselines=False)
    with pytest.raises(Killed):
        simulate(plan, tmp_path / "killed", baselines=False, on_event=_kill_after(1))  # type: ignore[arg-type]
    resumed = simulate(plan, tmp_path / "killed", baselines=False)
    assert resumed["federated"] == whole["federated"]
    assert [one["loss"] for one in resumed["rounds"]] == [one["loss"] for one in whole["rounds"]]
    assert simulate(plan, tmp_path / "killed", baselines=False).document == resumed.document
    with pytest.raises(SimulationError, match="another plan, seed or records"):
        simulate(plan, tmp_path / "killed", seed=5, baselines=False)


@pytest.mark.slow
def test_baselines_stand_beside_the_federation(tmp_path: Path) -> None:
    report = simulate(write_plan(tmp_path), tmp_path / "out", rounds=1)
    assert set(report["local_only"]["institutions"]) == set(report["federated_own"])
    assert 0.0 <= report["pooled"] <= 1.0


def test_bad_records_leave_nothing_behind(tmp_path: Path) -> None:
    plan = write_plan(tmp_path)
    (tmp_path / "records.jsonl").write_text("not json\n")
    with pytest.raises(RecordError, match="line 1"):
        simulate(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()
