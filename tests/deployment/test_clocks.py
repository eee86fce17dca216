"""A clock that is an hour off: the institution reads what is wrong and what to do, wherever it looks."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.joining import fetch_certificate, join
from client.upkeep import Upkeep
from tests.deployment.operator import Operator, now


@pytest.mark.parametrize(("hours", "side"), [(1, "3600 s behind the coordinator"), (-1, "3600 s ahead of the coordinator")])
def test_an_hour_off_is_told_by_status_and_by_the_node(hours: int, side: str, operator: Operator, tmp_path: Path) -> None:
    folder, said = tmp_path / "amber", list[str]()
    invitation = operator.invite("amber", tmp_path / "amber.toml")
    with operator.serving():
        join(folder, invitation, now, os.urandom)
        operator.approve("amber")
        fetch_certificate(folder, now)
        operator.ahead = timedelta(hours=hours)
        shown = CliRunner().invoke(app, ["status", "--institution", str(folder)])
        document = json.loads(CliRunner().invoke(app, ["status", "--institution", str(folder), "--json"]).stdout)
        Upkeep(folder, now, lambda: 0.0, said.append).look()
        operator.ahead = timedelta()
        right = json.loads(CliRunner().invoke(app, ["status", "--institution", str(folder), "--json"]).stdout)
    assert shown.exit_code == 0
    for text in (shown.stdout, document["clock"], *said):
        assert side in text and "set its clock by NTP" in text
    assert len(said) == 1 and right["clock"] == ""


def test_without_the_service_a_whole_certificate_is_still_shown(operator: Operator, tmp_path: Path) -> None:
    invitation = operator.invite("amber", tmp_path / "amber.toml")
    with operator.serving():
        join(tmp_path / "amber", invitation, now, os.urandom)
        operator.approve("amber")
        fetch_certificate(tmp_path / "amber", now)
    shown = CliRunner().invoke(app, ["status", "--institution", str(tmp_path / "amber")])
    assert shown.exit_code == 0 and "approved" in shown.stdout and "the clocks were not compared" in shown.stdout
