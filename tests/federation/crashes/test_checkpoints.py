"""A node that dies, or finds its disk full, while it trains (PROTOCOL, section 5) goes on from its checkpoint, which then goes away."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.checkpoints import CheckpointOf
from client.node import Node
from client.work import LocalUpdate, PrivateRound
from model.progress import Progress, steps_done
from protocols.identity import Identity
from protocols.plan import Plan
from protocols.secagg import SumManifest
from protocols.state import Experts, Tensors
from tests.federation.crashes.lives import PLAN
from tests.federation.crashes.points import Points, watch
from tests.federation.crashes.test_node_lines import die, start
from tests.federation.crashes.watched import Watched
from tests.federation.federation import FormulaPrivate, FormulaWork
from tests.federation.private_plans import LOCAL, private_plan
from tests.federation.scripted import Epoch, Script

FILE = "checkpoints/r1.safetensors"


@dataclass
class SteppedWork(FormulaWork):
    """The formula after four steps that only count."""

    steps: list[int] = field(default_factory=list)
    reach: Callable[[str], None] = lambda _: None

    @property
    def private(self) -> SteppedPrivate:
        return SteppedPrivate(self)

    def train(
        self,
        round_number: int,
        tensors: Tensors,
        trained: Collection[str],
        experts: Experts,
        corrections: Tensors | None = None,
        checkpoint: CheckpointOf | None = None,
    ) -> LocalUpdate:
        self.count(round_number, checkpoint)
        return super().train(round_number, tensors, trained, experts, corrections)

    def count(self, round_number: int, checkpoint: CheckpointOf | None) -> None:
        assert checkpoint is not None
        keeper = checkpoint(lambda: b"%d" % round_number)
        for step in range(1 + steps_done(keeper), 5):
            self.reach(f"at step {step}")
            self.steps.append(step)
            now = Progress(step, {"parameter/0": np.zeros(2, np.float32)}, 0.0, 0, 0)
            keeper.after_step(lambda now=now: now)  # type: ignore[misc]


class SteppedPrivate(FormulaPrivate):
    """The same under [privacy]."""

    work: SteppedWork

    def train(self, asked: PrivateRound, checkpoint: CheckpointOf | None = None) -> Tensors:
        self.work.count(asked.round, checkpoint)
        return super().train(asked)


class Kept(Watched):
    """Every step of every node's training is kept."""

    def _node(self, name: str, identity: Identity) -> Node:
        node, former = super()._node(name, identity), self.works.get(name)
        work = SteppedWork(name, self.plan, self.adaptation)
        work.reach = self.points.reach
        self.works[name] = work
        assert former is not None
        return replace(node, checkpoint_seconds=-1.0, stopwatch=lambda: 0.0)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """Four institutions; ada dies alone where a test says."""
    federation = opened(tmp_path, monkeypatch, PLAN)
    yield Script(federation)
    federation.close()


def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: Plan, **options: Any) -> Kept:
    directory = tmp_path / "federation"
    directory.mkdir()
    points = Points(directory, parties=("ada",), alone=True)
    watch(points, monkeypatch)
    return Kept(directory, plan, points=points, **options)


def steps_of(script: Script) -> list[int]:
    work = script.federation.works["ada"]
    assert isinstance(work, SteppedWork)
    return work.steps


def home(script: Script) -> Path:
    return script.federation.nodes["ada"].ledger.home


def begun(script: Script) -> tuple[Epoch, SumManifest]:
    epoch = start(script)
    return epoch, script.manifest(epoch, 1, "update", 1)


@pytest.mark.parametrize(
    ("where", "steps"),
    [
        ("at step 1", [1, 2, 3, 4]),
        (f"{FILE} before", [1, 2, 3, 4]),  # half of the first file lies there
        ("at step 3", [3, 4]),
        (r"update\.u32 before", []),  # all of it was kept, and the vector not yet
    ],
)
def test_steps_that_were_kept_are_not_taken_again(script: Script, where: str, steps: list[int]) -> None:
    epoch, manifest = begun(script)
    die(script, where, lambda: script.send("ada", epoch, manifest))
    assert not script.send("ada", epoch, manifest).refusal
    assert steps_of(script) == steps
    assert not list((home(script) / "checkpoints").iterdir()), "erased once the vector is kept"


@pytest.mark.slow
def test_a_private_round_goes_on_under_its_one_charge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(opened(tmp_path, monkeypatch, private_plan(LOCAL, rounds=1)))
    epoch, manifest = begun(script)
    die(script, "at step 3", lambda: script.send("ada", epoch, manifest))
    ledger = script.federation.nodes["ada"].ledger
    assert [one.state for one in ledger.privacy.charges()] == ["reserved"]
    assert not script.send("ada", epoch, manifest).refusal
    assert steps_of(script) == [3, 4] and [one.state for one in ledger.privacy.charges()] == ["spent"]
    script.federation.close()


def test_a_full_disk_at_the_vector_changes_nothing(script: Script) -> None:
    def full(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    epoch, manifest = begun(script)
    ledger = script.federation.nodes["ada"].ledger
    before = ledger.vectors.all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("client.vectors.write_file", full)
        assert "(StorageError)" in script.send("ada", epoch, manifest).refusal
    assert ledger.vectors.all() == before and (home(script) / FILE).exists()
    assert not script.send("ada", epoch, manifest).refusal
    assert steps_of(script) == [1, 2, 3, 4], "none is taken again"


def test_a_training_whose_round_is_over_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = opened(tmp_path, monkeypatch, PLAN, survives=False)
    federation.points.where = "at step 3"
    federation.run()
    assert federation.points.where == "", "she died"
    kept = federation.directory / "institutions" / "ada" / "checkpoints"
    assert kept.is_dir() and not list(kept.iterdir())
    federation.close()
