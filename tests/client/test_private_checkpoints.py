"""A private training that is killed takes no step twice that it kept, and draws every other one with noise of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client.checkpoints import Checkpoint, Checkpoints
from client.dataset import Dataset
from client.workbench import Base, Workbench
from model.progress import Progress
from protocols.privacy.noise import gaussian
from protocols.privacy.stream import CryptographicStream
from protocols.state import Tensors
from tests.client.checkpointed import load_tiny
from tests.client.test_private_bench import asked_of, bench_of
from tests.federation.attacks.weakened import weakened

STEPS, KEPT = 4, 2


@pytest.fixture(scope="module")
def base() -> Base:
    return load_tiny()


@pytest.fixture
def noises(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What every step drew, in all lives."""
    seen: list[bytes] = []

    def seeing(size: int, stream: Any) -> NDArray[np.float64]:
        numbers = gaussian(size, stream)
        seen.append(numbers.tobytes())
        return numbers

    monkeypatch.setattr("client.private_bench.gaussian", seeing)
    return seen


class Killed(Exception):
    """The process dies here."""


def bench_with(base: Base, records: int = 12) -> Workbench:
    bench = bench_of(base)
    training = bench.plan.training.model_copy(update={"local_steps": STEPS})
    examples = bench.train_set.examples[:records]
    return Workbench(bench.plan.model_copy(update={"training": training}), base, Dataset(examples, 0, 0), bench.test_set)


def two_lives(base: Base, home: Path, secrets: tuple[bytes, bytes], records: int = 12) -> Tensors:
    """The first one dies at the step after the one that it kept; in the second one there may be fewer records."""
    checkpoints = Checkpoints(home, -1.0, lambda: 0.0)  # one is always due
    bench = bench_with(base)
    with weakened("client.checkpoints.Checkpoint.after_step", by=dying(Checkpoint.after_step)), pytest.raises(Killed):
        bench.private.train(asked_of(bench, secrets[0]), checkpoints.of_run("r1"))
    bench = bench_with(base, records)
    return bench.private.train(asked_of(bench, secrets[1]), checkpoints.of_run("r1"))


def dying(after_step: Callable[[Checkpoint, Callable[[], Progress]], None]) -> Any:
    def step(checkpoint: Checkpoint, progress: Callable[[], Progress]) -> None:
        if progress().step > KEPT:
            raise Killed
        after_step(checkpoint, progress)

    return step


def test_steps_that_were_kept_are_not_taken_again(base: Base, tmp_path: Path, noises: list[bytes]) -> None:
    update = two_lives(base, tmp_path, (b"one", b"other"))
    assert len(noises) == (KEPT + 1) + (STEPS - KEPT) and len(set(noises)) == len(noises)
    assert all(np.abs(values).min() > 0 for values in update.values())


def test_no_secret_lies_on_disk(base: Base, tmp_path: Path) -> None:
    two_lives(base, tmp_path, (b"the first secret", b"the second secret"))
    content = (tmp_path / "checkpoints" / "r1.safetensors").read_bytes()
    assert b"secret" not in content and b"parameter/0" in content


@pytest.mark.parametrize("records", [12, 11])
@pytest.mark.parametrize("is_weakened", [True, False])
def test_resumed_step_reuses_noise_on_other_batch(base: Base, tmp_path: Path, noises: list[bytes], records: int, is_weakened: bool) -> None:
    """Randomness comes again, as on a machine put back to a snapshot; a resumed step, or a start on other records, draws other noise.

    The twin's streams know the secret alone.
    """

    def forgetful(secret: bytes, purpose: Any, *_: bytes) -> CryptographicStream:
        return CryptographicStream(secret, purpose)

    with weakened("client.private_bench.CryptographicStream", by=forgetful) if is_weakened else nullcontext():
        two_lives(base, tmp_path, (b"same", b"same"), records)
    first, second = noises[: KEPT + 1], noises[KEPT + 1 :]
    assert len(second) == (STEPS - KEPT if records == 12 else STEPS), "other records begin at the first step"
    assert bool(set(first) & set(second)) == is_weakened


def test_another_round_s_terms_are_no_progress(base: Base, tmp_path: Path, noises: list[bytes]) -> None:
    checkpoints = Checkpoints(tmp_path, -1.0, lambda: 0.0)
    bench = bench_with(base)
    asked = asked_of(bench, b"one")
    bench.private.train(asked, checkpoints.of_run("r1"))
    others = [replace(asked, round=2), replace(asked, noise_multiplier=2.0), replace(asked, sampling_rate=0.25)]
    others.append(replace(asked, label_counts=np.array([3.0, 9.0])))
    for other in others:
        noises.clear()
        bench.private.train(other, checkpoints.of_run("r1"))
        assert len(noises) == STEPS
    bench.private.train(others[-1], checkpoints.of_run("r1"))
    assert len(noises) == STEPS, "all of it was kept"
