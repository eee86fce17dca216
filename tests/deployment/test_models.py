"""Released models on their way to institutions: a real server, a real folder, and what is not given out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from client.cli import app
from client.connection import connect
from client.errors import ServiceRefused
from client.institution import read_membership
from client.joining import fetch_certificate, join
from client.ledger import Ledger
from client.pulled_models import Pulled, latest, list_models, pull_model
from client.settings import load_settings
from coordinator.registry.records import Contribution, NewRun, Participant, Round
from coordinator.registry.states import RunState
from coordinator.releasing import release_run
from coordinator.store import RunStore
from protocols.errors import ReleaseBroken
from protocols.invitation import read_invitation
from protocols.plan import Plan, parse_plan
from protocols.release import verify_release
from protocols.service import CHUNK, MODEL_FILE, ModelFileRequest
from protocols.state import State
from tests.deployment.operator import Operator, now

CONTENT = {
    "name": "triage",
    "base": {"name": "tiny", "sha256": "b" * 64},
    "records": {"prompt": "note: {note}", "target": " {code}"},
    "release": {"require": {"metric_above_base": None}},
}
PLAN = parse_plan(CONTENT, "test plan")
OTHERS = ("birch", "cedar", "delta")


@pytest.fixture
def member(operator: Operator, tmp_path: Path) -> Iterator[Path]:
    """The folder of amber, which has joined, while the operator serves."""
    operator.invite("amber", tmp_path / "invitation.toml")
    folder = tmp_path / "amber"
    with operator.serving():
        join(folder, read_invitation(tmp_path / "invitation.toml"), now, os.urandom)
        operator.approve("amber")
        fetch_certificate(folder, now)
        yield folder


def finished_run(operator: Operator, institutions: tuple[str, ...], plan: Plan = PLAN) -> str:
    """A run of one round without training: rows, and the files of a home's `runs`; the state takes three chunks."""
    registry = operator.registry
    registry.record_participants([Participant(name, name.encode().hex().ljust(64, "0")) for name in OTHERS])
    submitted = NewRun(plan.name, plan.sha256, plan.canonical().decode(), plan.base.sha256, plan.seed, plan.rounds)
    run = registry.create_run(submitted, os.urandom(4)).run
    for state in (RunState.ACCEPTING, RunState.RUNNING):
        registry.set_state(run, state)
    factor = "model.layers.0.self_attn.q_a_proj.lora_A.weight"
    values = np.arange(5 * CHUNK // 8, dtype=np.float32).reshape(5, -1)
    store = RunStore(operator.home.runs / run)
    digest = store.keep_state(State(plan.base.sha256, 0, {factor: values, factor.replace("_A", "_B"): values[:, :5].T.copy()}, {}))
    store.update(state_sha256=digest, transcript="d" * 64, threshold=3)
    registry.record_round(
        run, Round(0, digest, {"evaluate": "d" * 64}, tuple(Contribution(n, 1, 1) for n in institutions), 1.0, metric=0.5)
    )
    registry.set_state(run, RunState.FINISHED)
    return run


def released(operator: Operator, institutions: tuple[str, ...]) -> int:
    run = finished_run(operator, institutions)
    return release_run(operator.home, operator.registry, run, datetime(2030, 1, 1, tzinfo=UTC)).version


def pulled(folder: Path, version: int | None = None) -> Pulled:
    ledger = Ledger.open(Path(load_settings(folder / "institution.toml").storage.home), now)
    try:
        with connect(folder, now) as service:
            return pull_model(service, folder, read_membership(folder), ledger, "triage", version or latest(service, "triage"))
    finally:
        ledger.close()


def test_a_released_version_arrives_as_it_was_signed(operator: Operator, member: Path) -> None:
    released(operator, ("amber", *OTHERS))
    found = pulled(member)
    assert found.audit.ok and found.folder == member / "released" / "triage" / "1"
    assert found.audit.proved == ["The coordinator's key of roster.toml signed the manifest, and every file is the one that was signed."]
    verify_release(found.folder, operator.home.identity.public_key)
    assert [path.name for path in found.folder.parent.iterdir()] == ["1"] and pulled(member).audit.ok, "once more, in its place"


def test_versions_without_ones_own_rounds_are_neither_listed_nor_given_out(operator: Operator, member: Path) -> None:
    released(operator, OTHERS)
    with connect(member, now) as service:
        assert list_models(service) == ()
        with pytest.raises(ServiceRefused, match="no model 'triage' 1 contains rounds of amber"):
            list(service.stream(MODEL_FILE, ModelFileRequest("triage", 1, "manifest.json")))
    with pytest.raises(ServiceRefused, match="no version of 'triage' for this institution"):
        pulled(member)


def test_a_withdrawn_version_is_refused_with_the_reason(operator: Operator, member: Path) -> None:
    released(operator, ("amber", *OTHERS))
    operator.registry.withdraw_model("triage", 1, "its codes were mixed up")
    with pytest.raises(ServiceRefused, match="triage 1 was withdrawn by the operator: its codes were mixed up"):
        pulled(member, 1)
    with connect(member, now) as service:
        (entry,) = list_models(service)
    assert entry.withdrawn_at and entry.withdrawn_reason == "its codes were mixed up"
    assert not (member / "released" / "triage" / "1").exists()
    assert released(operator, ("amber", *OTHERS)) == 2 and pulled(member).version == 2


@pytest.mark.parametrize("file", ["../../identity.key", "..", "/etc/hostname", "identity.key", ""])
def test_no_other_file_of_the_operator_is_given_out(operator: Operator, member: Path, file: str) -> None:
    released(operator, ("amber", *OTHERS))
    with connect(member, now) as service, pytest.raises(ServiceRefused, match="has no file of this name"):
        list(service.stream(MODEL_FILE, ModelFileRequest("triage", 1, file)))


def test_what_was_changed_at_the_operator_is_kept_apart(operator: Operator, member: Path) -> None:
    released(operator, ("amber", *OTHERS))
    card = operator.home.models / "triage" / "1" / "README.md"
    card.write_text(card.read_text() + "better than all others")
    found = pulled(member)
    assert not found.audit.ok and "README.md: changed after the release" in found.audit.failed[0]
    assert found.folder == member / "released" / "triage" / "refused-1" and not (member / "released" / "triage" / "1").exists()


def test_another_version_in_the_place_of_the_one_asked_for_is_refused(operator: Operator, member: Path) -> None:
    for _ in range(2):
        released(operator, ("amber", *OTHERS))
    models = operator.home.models / "triage"
    (models / "2").rename(models / "3")
    (models / "1").rename(models / "2")
    with pytest.raises(ReleaseBroken, match="the manifest of another version than triage 2"):
        pulled(member, 2)
    assert list((member / "released" / "triage").iterdir()) == []


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments])


def test_the_commands_say_what_was_verified_and_what_could_not_be(operator: Operator, member: Path) -> None:
    at = ("--institution", str(member))
    assert "No released model contains rounds of this institution." in call("list", *at).output
    Ledger.open(Path(load_settings(member / "institution.toml").storage.home), now).close()
    released(operator, ("amber", *OTHERS))
    told = call("pull", "triage", *at).output
    assert "Proved:" in told and "Not proved by this institution:" in told
    assert told.splitlines()[-1] == f"triage 1 lies in {member / 'released' / 'triage' / '1'}."
    (listed,) = json.loads(call("list", *at, "--json").stdout)["models"]
    assert (listed["name"], listed["version"], listed["here"], listed["withdrawn_at"]) == ("triage", 1, True, None)
    folder = member / "released" / "triage" / "1"
    assert call("verify", str(folder), *at).exit_code == 0
    (folder / "plan.json").write_text("{}")
    changed = call("verify", str(folder), *at, "--json")
    assert changed.exit_code == 1 and "plan.json: changed after the release" in json.loads(changed.stdout)["failed"][0]
    operator.registry.withdraw_model("triage", 1, "its codes were mixed up")
    refused = call("pull", "triage", "1", *at)
    assert refused.exit_code == 1 and "was withdrawn by the operator: its codes were mixed up" in refused.stderr
