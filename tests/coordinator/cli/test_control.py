"""`pause`, `resume` and `stop` write what is wanted, and wait for the run's process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consortium.cli import app
from coordinator.errors import RunStopped
from coordinator.operator_home import make_operator_home
from coordinator.registry.records import NewRun
from coordinator.registry.registry import Registry
from coordinator.registry.states import RunState
from coordinator.settings import new_settings
from coordinator.waiting import BY_OPERATOR, Waiting


def _now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = make_operator_home(tmp_path / "home", new_settings("operator", ["localhost"], {}), _now, os.urandom).open_registry(_now)
    run = registry.create_run(NewRun("triage", "ab" * 32, "{}", "cd" * 32, 0, 2), b"\1\2\3\4")
    for state in (RunState.ACCEPTING, RunState.RUNNING):
        registry.set_state(run.run, state)
    yield registry
    registry.close()


def _call(tmp_path: Path, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["coordinator", *arguments, "--home", str(tmp_path / "home")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_each_command_waits_until_the_runs_process_did_it(registry: Registry, tmp_path: Path) -> None:
    (run,) = registry.runs()
    ended = []

    def process() -> None:
        waiting = Waiting(run.run, registry, lambda _: time.sleep(0.05), lambda _: None)
        while True:
            try:
                waiting.obey_operator()
            except RunStopped as stopped:
                registry.set_state(run.run, RunState.STOPPED, str(stopped))
                return ended.append(True)
            time.sleep(0.05)

    thread = threading.Thread(target=process)
    thread.start()
    assert "is paused" in _call(tmp_path, "pause", "triage")
    assert registry.run(run.run).reason == BY_OPERATOR
    assert "is running" in _call(tmp_path, "resume", "triage")
    assert "is stopped" in _call(tmp_path, "stop", "triage")
    thread.join(10)
    assert ended


def test_without_waiting_the_wish_alone_is_written(registry: Registry, tmp_path: Path) -> None:
    assert "is running, paused is wanted" in _call(tmp_path, "pause", "triage", "--no-wait")
    assert registry.runs()[0].state is RunState.RUNNING
