"""A training on the bundled base that is killed goes on from its checkpoint with the same bits, and from no other training's."""

from __future__ import annotations

import errno
import logging
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.checkpoints import SHARE, Checkpoint, Checkpoints
from client.dataset import Dataset
from client.work import LocalUpdate
from client.workbench import Base, Workbench
from model.progress import Progress
from tests.client.checkpointed import load_tiny, open_bench, plan_of, saved, trained

STEPS = 4
OTHER: dict[str, dict[str, Any]] = {
    "another run": {"run": "r2"},
    "another round": {"round_number": 2},
    "other steps": {"training": {"local_steps": 5}},
    "another plan": {"training": {"learning_rate": 2e-2}},
    "another start": {"shift": 1e-3},
    "other corrections": {"corrected": True},
    "other records": {"records": 19},
}


@pytest.fixture(scope="module")
def base() -> Base:
    return load_tiny()


def every_step(home: Path) -> Checkpoints:
    return Checkpoints(home, -1.0, lambda: 0.0)  # one is always due


class Killed(Exception):
    """The process dies here."""


def kill_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of trainings from now on, until `monkeypatch.undo`; the step's file is written."""
    after_step = Checkpoint.after_step

    def dying(checkpoint: Checkpoint, progress: Callable[[], Progress]) -> None:
        after_step(checkpoint, progress)
        if progress().step == step:
            raise Killed

    monkeypatch.setattr(Checkpoint, "after_step", dying)


def killed(base: Base, home: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> Checkpoints:
    checkpoints = every_step(home)
    kill_after(step, monkeypatch)
    with pytest.raises(Killed):
        trained(open_bench(base), checkpoints.of_run("r1"))
    monkeypatch.undo()
    return checkpoints


def assert_equal(one: LocalUpdate, two: LocalUpdate) -> None:
    assert (one.loss_sum, one.examples, one.tokens) == (two.loss_sum, two.examples, two.tokens)
    for left, right in ((one.delta, two.delta), (one.expert_tokens, two.expert_tokens)):
        assert left.keys() == right.keys()
        assert all(np.array_equal(values, right[name]) for name, values in left.items())  # type: ignore[index]


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_the_update_has_the_bits_of_an_undisturbed_one(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    checkpoints = killed(base, tmp_path, step, monkeypatch)
    steps: list[int] = []
    monkeypatch.setattr(Checkpoint, "after_step", lambda _, progress: steps.append(progress().step))
    assert_equal(trained(open_bench(base), checkpoints.of_run("r1")), trained(open_bench(base), None))
    assert steps == list(range(step + 1, STEPS + 1))


@pytest.mark.parametrize("other", OTHER)
def test_another_training_finds_nothing(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    checkpoints, change = killed(base, tmp_path, 3, monkeypatch), dict(OTHER[other])
    bench = open_bench(base, plan_of(**change.pop("training", {})), change.pop("records", 20))
    if "run" in change:
        (tmp_path / "checkpoints" / "r1.safetensors").rename(tmp_path / "checkpoints" / "r2.safetensors")
    steps: list[int] = []
    monkeypatch.setattr(Checkpoint, "after_step", lambda _, progress: steps.append(progress().step))
    assert_equal(trained(bench, checkpoints.of_run(change.pop("run", "r1")), **change), trained(bench, None, **change))
    assert steps[0] == 1


def test_a_group_s_name_is_part_of_the_records(base: Base) -> None:
    bench = open_bench(base)
    named = Workbench(bench.plan, base, replace(bench.train_set, groups=("a",) * 20), Dataset((), 0, 0))
    assert named._identity({}) != bench._identity({}) == open_bench(base)._identity({})


def test_a_damaged_file_is_said_to_be_and_the_training_begins_anew(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = killed(base, tmp_path, 2, monkeypatch)
    path = tmp_path / "checkpoints" / "r1.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert_equal(trained(open_bench(base), checkpoints.of_run("r1")), trained(open_bench(base), None))
    assert len(caplog.messages) == 1 and "is damaged" in caplog.text


def test_a_full_disk_does_not_end_a_training(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("client.checkpoints.write_file", full)
    with caplog.at_level(logging.WARNING):
        found = trained(open_bench(base), every_step(tmp_path).of_run("r1"))
    assert_equal(found, trained(open_bench(base), None))
    assert len(caplog.messages) == 1 and "goes on without a checkpoint" in caplog.text


def progress() -> Progress:
    return Progress(1, {"parameter/0": np.zeros(3, np.float32)}, 0.5, 1, 1)


def test_files_are_the_seconds_apart_and_take_no_measurable_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, written = [0.0], list[float]()

    def write(*_: Any, **__: Any) -> None:
        written.append(now[0])
        now[0] += 2.0

    monkeypatch.setattr("client.checkpoints.write_file", write)
    checkpoint = Checkpoint(tmp_path / "r1", lambda: b"", 60.0, lambda: now[0])
    while now[0] < 400.0:
        checkpoint.after_step(progress)
        now[0] += 1.0
    assert written == [60.0, 62.0 + 2.0 * SHARE, 64.0 + 4.0 * SHARE, 66.0 + 6.0 * SHARE][: len(written)] and len(written) > 2


def test_without_seconds_there_is_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path, 0.0, time.monotonic).of_run("r1") is None


def test_a_file_is_the_owner_s_alone_and_erased_with_what_was_half_written(tmp_path: Path) -> None:
    checkpoints = every_step(tmp_path)
    for run in ("r1", "r1.b"):
        opened = checkpoints.of_run(run)
        assert opened is not None
        opened(lambda: b"identity").after_step(progress)
    folder = tmp_path / "checkpoints"
    assert stat.S_IMODE((folder / "r1.safetensors").stat().st_mode) == 0o600
    (folder / ".r1.safetensors.k1ll3d").write_bytes(b"half")
    checkpoints.erase("r1")
    assert [path.name for path in folder.iterdir()] == ["r1.b.safetensors"]
    checkpoints.erase("r1")


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 3])
def test_a_process_that_is_killed_goes_on_with_the_same_bits(base: Base, tmp_path: Path, steps: int) -> None:
    """kill -9, once or more, each a little after another file of it was written."""
    path, root = tmp_path / "checkpoints" / "r1.safetensors", Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.client.checkpointed", str(tmp_path)]
    for _ in range(steps):
        before = path.stat().st_mtime_ns if path.exists() else 0
        process = subprocess.Popen(command, cwd=root)
        while not (path.exists() and path.stat().st_mtime_ns > before):
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.005)
        process.kill()
        process.wait()
    assert not (tmp_path / "update.safetensors").exists()
    subprocess.run(command, cwd=root, check=True)
    assert_equal(saved(tmp_path), trained(open_bench(base, plan_of(local_steps=40)), None))
