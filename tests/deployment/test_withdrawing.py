"""An institution leaves a run over the real service: the word is its own, kept once, and marks its models."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.connection import connect
from client.decisions import Decisions
from client.errors import ServiceRefused
from client.joining import fetch_certificate, join
from client.ledger import Ledger
from client.settings import load_settings
from coordinator.registry.records import Contribution, ModelVersion, NewRun, Round
from coordinator.registry.states import RunState
from coordinator.withdrawals import withdrawn_from
from protocols.acceptance import Withdrawal
from protocols.identity import Identity
from protocols.invitation import read_invitation
from protocols.service import WITHDRAW
from tests.deployment.operator import Operator, now

PLAN = b"{}"


@pytest.fixture
def folder(operator: Operator, tmp_path: Path) -> Iterator[Path]:
    """An approved institution's, with a ledger, while the operator serves."""
    operator.invite("amber", tmp_path / "amber.toml")
    with operator.serving():
        join(tmp_path / "amber", read_invitation(tmp_path / "amber.toml"), now, os.urandom)
        operator.approve("amber")
        fetch_certificate(tmp_path / "amber", now)
        yield tmp_path / "amber"


@pytest.fixture
def run(operator: Operator, folder: Path) -> str:
    """A finished run with a round of this institution's, whose model is released; its node accepted it."""
    registry, digest = operator.registry, hashlib.sha256(PLAN).hexdigest()
    made = registry.create_run(NewRun("triage", digest, PLAN.decode(), "ab" * 32, 0, 1), b"abcd").run
    for state in (RunState.ACCEPTING, RunState.RUNNING):
        registry.set_state(made, state)
    registry.record_round(made, Round(0, "ab" * 32, {}, (Contribution("amber", 1, 1),), 1.0))
    registry.set_state(made, RunState.FINISHED)
    registry.add_model_version(ModelVersion("triage", 1, made, "models/triage/1", "ab" * 32, "ab" * 32, "ab" * 32, None))
    ledger = Ledger.open(Path(load_settings(folder / "institution.toml").storage.home), lambda: datetime.now(UTC))
    ledger.accept_run(made, PLAN)
    ledger.close()
    return made


def test_withdrawing_marks_the_models_and_is_said_once(operator: Operator, folder: Path, run: str) -> None:
    for _ in range(2):
        done = CliRunner().invoke(app, ["withdraw", "--yes", "--reason", "the board", "--institution", str(folder)])
        assert done.exit_code == 0, done.output
        assert f"amber has withdrawn from {run}" in done.output and "marked from now on: triage 1" in done.output
    (kept,) = operator.registry.withdrawals(run)
    assert Withdrawal.from_bytes(bytes.fromhex(kept.statement)).reason == "the board"
    (version,) = operator.registry.model_versions()
    assert withdrawn_from(operator.registry, version) == ("amber",)
    assert Decisions(Path(load_settings(folder / "institution.toml").storage.home)).is_withdrawn(run)


def test_without_the_service_the_node_refuses_and_the_command_says_what_is_left_to_do(folder: Path, run: str) -> None:
    text = (folder / "connection.toml").read_text()
    (folder / "connection.toml").unlink()
    done = CliRunner().invoke(app, ["withdraw", run, "--yes", "--institution", str(folder)])
    assert done.exit_code == 1 and "the coordinator does not know it of 1 of 1 runs" in done.output
    assert Decisions(Path(load_settings(folder / "institution.toml").storage.home)).is_withdrawn(run)
    (folder / "connection.toml").write_text(text)
    assert CliRunner().invoke(app, ["withdraw", run, "--yes", "--institution", str(folder)]).exit_code == 0


def test_a_run_that_was_never_asked_for_is_named(folder: Path, run: str) -> None:
    done = CliRunner().invoke(app, ["withdraw", "other", "--institution", str(folder)])
    assert done.exit_code == 1 and "was never asked to take part in run other" in done.output


def test_nobody_leaves_without_being_asked(folder: Path, run: str) -> None:
    given = ["withdraw", run[:4], "--institution", str(folder)]  # the beginning of an id is enough
    no = CliRunner().invoke(app, given, input="n\n")
    assert no.exit_code == 1 and f"amber leaves {run}, and there is no way back" in no.output
    assert CliRunner().invoke(app, [*given, "--json"]).exit_code == 2
    assert not Decisions(Path(load_settings(folder / "institution.toml").storage.home)).is_withdrawn(run)
    assert CliRunner().invoke(app, given, input="y\n").exit_code == 0


def test_nobody_withdraws_for_another(operator: Operator, folder: Path, run: str) -> None:
    own, other = Identity.load("amber", folder / "identity.key"), Identity.generate("birch", os.urandom)
    forged = Withdrawal(run, "amber", "", "2030").signed_by(other.sign)
    named = Withdrawal(run, "birch", "", "2030").signed_by(own.sign)
    with connect(folder, now) as service:
        for statement in (forged, named):
            with pytest.raises(ServiceRefused):
                service.call(WITHDRAW, statement)
    assert operator.registry.withdrawals(run) == ()


def test_a_withdrawal_names_the_whole_run(operator: Operator, folder: Path, run: str) -> None:
    """To mark a run with a signature that names another: the registry knows runs by the beginning of their ids, too."""
    identity = Identity.load("amber", folder / "identity.key")
    statement = Withdrawal(run[:-1], "amber", "", now().isoformat()).signed_by(identity.sign)
    with connect(folder, now) as service, pytest.raises(ServiceRefused, match="names the whole id of a run"):
        service.call(WITHDRAW, statement)
    assert operator.registry.withdrawals(run) == ()
