"""A simulation whose process is killed: nothing of it goes on without it, and a new process ends with the same figures."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from consortium import simulate
from coordinator.errors import RegistryError
from coordinator.registry.registry import Registry
from tests.consortium.command_line import command, consortium, environment, write_hostile_packages
from tests.consortium.small_notes import write_plan

FIGURES = ("base", "local_only", "federated", "federated_own", "pooled", "experts", "test_records")


@pytest.mark.slow
def test_killed_process_takes_its_baselines_along_and_another_goes_on_to_the_same_figures(tmp_path: Path) -> None:
    # Enough steps that the baselines, which take twice as many, are under way when the first round is finished.
    plan = write_plan(tmp_path, ("rounds = 2", "rounds = 3"), ("local_steps = 1", "local_steps = 5"))
    out = tmp_path / "killed"
    write_hostile_packages(tmp_path)
    call, env = command("simulate", str(plan), "--out", str(out)), environment()
    with subprocess.Popen(call, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            _wait_until(lambda: process.poll() is not None or _rounds(out) > 1, 240)
            assert process.poll() is None, process.stderr and process.stderr.read()
            (baselines,) = _baselines(out)
        finally:
            os.kill(process.pid, signal.SIGKILL)
    assert not (out / "report.json").exists()
    _wait_until(lambda: baselines not in _baselines(out), 60)  # it notices once its imports are done

    done = consortium(tmp_path, "simulate", str(plan), "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    expected = simulate(plan, tmp_path / "whole")
    assert _figures(simulate(plan, out).document) == _figures(expected.document)


def _figures(document: Any) -> dict[str, Any]:
    rounds = [(one["round"], one["loss"], one["metric"], one["institutions"], one["missing"]) for one in document["rounds"]]
    return {name: document[name] for name in FIGURES} | {"rounds": rounds}


def _rounds(out: Path) -> int:
    """Finished rounds in the registry, the measurement of the base among them."""
    try:
        registry = Registry.open(str(out / "registry.db"), lambda: datetime.now(UTC), read_only=True)
    except RegistryError:
        return 0
    try:
        return sum(len(registry.rounds(run.run)) for run in registry.runs())
    finally:
        registry.close()


def _baselines(out: Path) -> list[int]:
    """Processes that train this folder's baselines."""
    listed = subprocess.run(["ps", "-wwAo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "consortium.baselines" in line and str(out) in line]


def _wait_until(reached: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "not reached in time"
        time.sleep(0.05)
