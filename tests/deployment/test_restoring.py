"""`client restore` asks the operator what this institution may have spent, and is told of nobody else."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from typer.testing import CliRunner

from client.cli import app
from client.joining import fetch_certificate, join
from client.ledger import Ledger
from coordinator.registry.records import Contribution, Participant, Round, Spent
from coordinator.registry.states import RunState
from coordinator.submission import new_run
from tests.deployment.operator import Operator, now
from tests.federation.private_plans import LOCAL, private_plan


def private_run(operator: Operator) -> str:
    """A run of which amber and birch may have sent one round."""
    registry = operator.registry
    registry.record_participants([Participant("birch", "ab" * 32)])
    run = registry.create_run(new_run(private_plan(LOCAL)), b"\x01\x02\x03\x04").run
    for state in (RunState.ACCEPTING, RunState.RUNNING):
        registry.set_state(run, state)
    parts = tuple(Contribution(name, 1, 1) for name in ("amber", "birch"))
    for number, spent in ((0, ()), (1, tuple(Spent(name, epsilon, 1e-5) for name, epsilon in (("amber", 8.0), ("birch", 3.0))))):
        registry.record_round(run, Round(number, "c" * 64, {"evaluate": "d" * 64}, parts, 1.0, spent=spent))
    return run


def test_a_run_that_the_backup_does_not_know_is_charged(operator: Operator, tmp_path: Path) -> None:
    folder, backup = tmp_path / "amber", str(tmp_path / "backup")
    invitation = operator.invite("amber", tmp_path / "amber.toml")

    def call(*arguments: str) -> dict[str, object]:
        done = CliRunner().invoke(app, [*arguments, "--json", "--institution", str(folder)])
        return dict(json.loads(done.stdout))

    with operator.serving():
        join(folder, invitation, now, os.urandom)
        operator.approve("amber")
        fetch_certificate(folder, now)
        Ledger.open(folder / "node", now).close()
        assert call("backup", backup)["ok"]
        run = private_run(operator)
        (folder / "node").rename(folder / "lost")
        said = call("restore", backup)
    assert (said["ok"], said["unknown_private_runs"], said["asked_operator"]) == (True, [run], True)
    spent = call("ledger")["privacy"]
    assert isinstance(spent, dict) and 7.9 < spent["epsilon_spent"] <= 8.1
    ledger = Ledger.look(folder / "node", lambda: datetime.now(UTC))
    assert [(one.run, one.unit, one.state) for one in ledger.privacy.charges()] == [(run, "record", "spent")]
    ledger.close()
