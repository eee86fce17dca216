"""`coordinator models`: listing, lineage, release and withdrawal, for people and for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.errors import RegistryError, ReleaseRefused
from coordinator.operator_home import OperatorHome, make_operator_home
from coordinator.registry import Registry
from coordinator.registry.records import Contribution, ModelVersion, NewRun, Participant, Round, Withdrawal
from coordinator.registry.states import RunState
from coordinator.release import TrainedModel
from coordinator.settings import CoordinatorSettings
from coordinator.store import RunStore
from coordinator.verify import verify_registry
from protocols.plan import Plan, parse_plan
from protocols.release import verify_release
from tests.coordinator.conftest import NAMES, SKETCH, make_state


@pytest.fixture
def database(release: Callable[[], ModelVersion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    release()
    monkeypatch.setenv("COLUMNS", "240")
    return str(tmp_path / "registry.db")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments])


def document(*arguments: str) -> dict[str, Any]:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_versions_of_an_institution_are_listed(database: str) -> None:
    assert document("list", "--registry", database) == document("--registry", database)
    (model,) = document("list", "--institution", "amber", "--registry", database)["models"]
    assert (model["name"], model["withdrawn_at"], model["withdrawn_institutions"]) == ("triage", None, [])
    assert document("list", "--institution", "delta", "--registry", database)["models"] == [], "it was missing from every round"
    assert isinstance(call("list", "--institution", "nobody", "--registry", database).exception, RegistryError)


def test_versions_that_contain_an_institution_that_withdrew_are_marked(database: str, registry: Registry) -> None:
    for name in ("birch", "delta"):
        registry.withdraw(Withdrawal(name, None, "we leave", "00" * 64))
    (model,) = document("list", "--registry", database)["models"]
    assert model["withdrawn_institutions"] == ["birch"]
    assert "birch withdrew" in call("--registry", database).output


def test_lineage_is_shown(database: str, trained: TrainedModel) -> None:
    shown = document("show", "triage", "--registry", database)
    assert shown == document("show", "triage", "1", "--registry", database)
    assert (shown["run"], shown["rounds"], shown["institutions"]) == (trained.run, 3, ["amber", "birch", "cedar"])
    assert shown["missing"] == [{"institution": "delta", "rounds": [0, 1, 2], "reason": "missing from update sum"}]
    assert shown["metric"] == {"name": "accuracy", "higher_is_better": True, "base": 0.25, "final": 0.75}
    told = call("show", "triage", "--registry", database).output
    missing = "delta, round 0-2: missing from update sum"
    for text in ("rounds 0 to 2", missing, "0.2500 (base) to 0.7500", "no noise", trained.transcript_sha256):
        assert text in told
    assert "there is no released model 'triage 2'" in str(call("show", "triage", "2", "--registry", database).exception)


def test_options_before_a_command_are_wrong_use(database: str) -> None:
    assert call("--registry", database, "show", "triage").exit_code == 2


@pytest.fixture
def home(tmp_path: Path) -> OperatorHome:
    return make_operator_home(tmp_path / "home", CoordinatorSettings(), lambda: datetime.now(UTC), os.urandom)


def finished(home: OperatorHome, required: float) -> str:
    """A run from .25 to .5, which left its files in the home; its plan requires so much more than the base."""
    plan: Plan = parse_plan({**SKETCH, "rounds": 1, "release": {"require": {"metric_above_base": required}}}, "the sketch")
    registry = home.open_registry(lambda: datetime.now(UTC))
    registry.record_participants([Participant(name, name.encode().hex().ljust(64, "0")) for name in NAMES])
    run = registry.create_run(NewRun(plan.name, plan.sha256, plan.canonical().decode(), plan.base.sha256, plan.seed, 1), b"\x01\x02").run
    for state in (RunState.ACCEPTING, RunState.RUNNING):
        registry.set_state(run, state)
    store = RunStore(home.runs / run)
    digest = store.keep_state(make_state(1))
    store.update(state_sha256=digest, transcript="e" * 64, threshold=3)
    for number, metric in enumerate((0.25, 0.5)):
        gone = Contribution("delta", 1, 1, "train.sum", "its [disk](http://x) is | full")
        parts = (*(Contribution(name, 1, 1) for name in NAMES[:3]), gone)
        registry.record_round(run, Round(number, digest, {"update": "e" * 64}, parts, 1.0, metric=metric))
    registry.set_state(run, RunState.FINISHED)
    registry.close()
    return run


def test_a_run_is_released_from_the_operators_home(home: OperatorHome) -> None:
    run = finished(home, 0.25)
    released = document("release", run[:8], "--home", str(home.folder))
    assert (released["run"], released["version"]) == (run, 1)
    folder = home.models / released["path"]
    verify_release(folder, home.identity.public_key)
    card = (folder / "README.md").read_text()
    assert r"| delta | 0-1 | its \[disk\](http://x) is \| full |" in card and "Released all the same" not in card
    assert document("release", run, "--home", str(home.folder)) == released, "once"


def test_a_release_that_the_plan_does_not_allow_needs_a_reason_that_everybody_reads(home: OperatorHome) -> None:
    run, place = finished(home, 0.3), str(home.folder)
    refused = call("release", run, "--home", place).exception
    assert isinstance(refused, ReleaseRefused) and "metric_above_base is 0.3" in str(refused)
    assert "Released triage 1" in call("release", run, "--override", "for a  trial", "--home", place).output
    shown = document("show", "triage", "--registry", home.registry)
    assert shown["overrides"][0]["reason"] == "for a trial" and "0.2500 (base) to 0.5000" in shown["overrides"][0]["unmet"][0]
    assert "RELEASED ALL THE SAME (for a trial)" in call("show", "triage", "--registry", home.registry).output
    card = (home.models / "triage" / "1" / "README.md").read_text()
    assert "## Released all the same" in card and "for a trial" in card
    registry = home.open_registry(lambda: datetime.now(UTC), read_only=True)
    proved = verify_registry(registry, home.models, run).proved
    registry.close()
    assert any("was released by the operator's decision (for a trial)" in sentence for sentence in proved)


def test_a_withdrawn_version_says_so(home: OperatorHome) -> None:
    run, place = finished(home, 0.25), str(home.folder)
    call("release", run, "--home", place)
    assert isinstance(call("withdraw", "triage", "1", "--reason", " ", "--home", place).exception, RegistryError)
    assert call("withdraw", "triage", "1", "--reason", "codes were\nmixed up", "--home", place).exit_code == 0
    assert document("show", "triage", "--registry", home.registry)["withdrawn"]["reason"] == "codes were mixed up"
    assert document("--registry", home.registry)["models"][0]["withdrawn_at"]
    assert isinstance(call("withdraw", "triage", "1", "--reason", "again", "--home", place).exception, RegistryError)
    assert call("withdraw", "triage", "1", "--home", place).exit_code == 2
