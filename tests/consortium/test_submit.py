"""`consortium coordinator submit` says what became of the run that it waited for."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consortium.cli import app
from coordinator.operator_home import make_operator_home
from coordinator.registry.records import Participant
from coordinator.registry.registry import Registry
from coordinator.registry.states import RunState
from coordinator.settings import new_settings

NAMES = ("amber", "birch", "cedar", "delta")
PLAN = """
name = "triage"
base = "tiny"
records = {prompt = "note: {note}", target = " {code}"}
evaluation = {choices = [" C01", " C02"]}
"""
TOO_FEW = "2 of 4 institutions accepted the plan within 60 s"


def _now() -> datetime:
    return datetime.now(UTC)


def _fail_the_next(registry: Registry) -> None:
    known = len(registry.runs())
    while len(registry.runs()) == known:
        time.sleep(0.02)
    registry.set_state(registry.runs()[-1].run, RunState.FAILED, TOO_FEW)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_run_that_fails_while_it_is_waited_for_gives_its_reason_and_exit_code_1(tmp_path: Path, as_json: bool) -> None:
    home = make_operator_home(tmp_path / "home", new_settings("operator", ["localhost"], {}), _now, os.urandom)
    registry = home.open_registry(_now)
    registry.record_participants([Participant(name, name.encode().hex().ljust(64, "0")) for name in NAMES])
    (tmp_path / "plan.toml").write_text(PLAN)
    process = threading.Thread(target=_fail_the_next, args=(registry,))
    process.start()
    call = ["coordinator", "submit", str(tmp_path / "plan.toml"), "--home", str(home.folder), *(["--json"] if as_json else [])]
    done = CliRunner().invoke(app, call)
    process.join()
    run = registry.runs()[0].run
    registry.close()
    assert done.exit_code == 1, done.output
    if as_json:
        assert json.loads(done.stdout)["reason"] == TOO_FEW
    else:
        assert done.stdout.endswith(f"{run} is failed: {TOO_FEW}\n")
