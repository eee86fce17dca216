"""The commands of joining, on both sides, as people and programs call them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from consortium.cli import app
from coordinator.operator_home import open_operator_home
from protocols.errors import ConsortiumError
from protocols.invitation import read_invitation
from tests.deployment.operator import Operator


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def call(*arguments: str | Path, given: str = "") -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=given)


def test_an_operator_begins_once(tmp_path: Path) -> None:
    begin = ("coordinator", "init", "--home", tmp_path, "--host", "sums.example.org", "--host", "10.0.0.7", "--base", f"tiny={tmp_path}")
    assert call(*begin).exit_code == 0
    home = open_operator_home(tmp_path)
    assert home.settings.serve.service == "sums.example.org:9444" and home.base_directory("tiny") == tmp_path
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert isinstance(call(*begin).exception, ConsortiumError)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    (tmp_path / "coordinator.toml").unlink()  # as if the first call had been interrupted
    assert call(*begin).exit_code == 0
    for name in ("identity.key", "tls/ca.key", "tls/server.key"):
        assert (tmp_path / name).read_bytes() == before[tmp_path / name]
    assert isinstance(call("coordinator", "init", "--home", tmp_path / "other", "--host", "no host").exception, ConsortiumError)


def test_two_commands_and_a_telephone_call(operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_home, here = ("--home", operator.home.folder), ("--institution", tmp_path / "amber")
    invitation = tmp_path / "amber.toml"
    invited = json.loads(call("coordinator", "invite", "amber", *at_home, "--out", invitation, "--json").stdout)
    assert isinstance(call("coordinator", "invite", "amber", *at_home, "--out", invitation).exception, ConsortiumError)
    with operator.serving():
        init = call("client", "init", "--invite", invitation, *here)
        assert init.exit_code == 0 and "waiting" in init.stdout
        asked = json.loads(call("client", "status", *here, "--json").stdout)
        listed = json.loads(call("coordinator", "participants", *at_home, "--json").stdout)["participants"]
        assert [(one["state"], one["fingerprint"]) for one in listed] == [("waiting", asked["fingerprint"])]
        assert asked["coordinator_fingerprint"] == invited["coordinator_fingerprint"] != asked["fingerprint"]
        assert asked["fingerprint"] in init.stdout and asked["coordinator_fingerprint"] in init.stdout
        assert asked["state"] == "waiting" and asked["certificate_until"] is None
        declined = call("coordinator", "participants", "approve", "amber", *at_home, given="n\n")
        assert asked["fingerprint"] in declined.stdout and isinstance(declined.exception, ConsortiumError)
        wrong = call("coordinator", "participants", *at_home, "approve", "amber", "--fingerprint", "babad-babad-babad-babad-babad-babad")
        assert "other words" in str(wrong.exception)
        words = asked["fingerprint"].upper().replace("-", " ")
        assert call("coordinator", "participants", "approve", "amber", "--fingerprint", words, *at_home).exit_code == 0
        assert json.loads(call("client", "status", *here, "--json").stdout)["state"] == "approved"
        assert call("coordinator", "participants", "revoke", "amber", "--reason", "it left", *at_home).exit_code == 0
        status = call("client", "status", *here)
        assert status.exit_code == 1 and "amber was revoked (it left)" in status.output and "approved" not in status.output
    monkeypatch.setenv("COLUMNS", "80")
    listed = call("coordinator", "participants", *at_home).stdout
    assert "it left" in listed and asked["fingerprint"] in listed


def test_a_request_may_be_refused(operator: Operator, tmp_path: Path) -> None:
    at_home, here = ("--home", operator.home.folder), ("--institution", tmp_path / "amber")
    call("coordinator", "invite", "amber", *at_home, "--out", tmp_path / "amber.toml")
    with operator.serving():
        call("client", "init", "--invite", tmp_path / "amber.toml", *here)
        assert call("coordinator", "participants", "refuse", "amber", *at_home).exit_code == 0
        status = call("client", "status", *here)
        assert status.exit_code == 0 and "refused" in status.stdout
        assert isinstance(call("coordinator", "participants", "approve", "amber", *at_home, given="y\n").exception, ConsortiumError)


def test_an_error_is_one_sentence_or_one_document(operator: Operator, tmp_path: Path) -> None:
    here = ("--institution", tmp_path / "amber")
    operator.invite("amber", tmp_path / "amber.toml")
    lost = call("client", "init", "--invite", tmp_path / "amber.toml", *here)
    assert lost.exit_code == 1 and len(lost.stderr.splitlines()) == 1 and "does not answer" in lost.stderr
    (tmp_path / "amber.toml").write_text("institution = 3\n")
    damaged = call("client", "init", "--invite", tmp_path / "amber.toml", *here, "--json")
    assert damaged.exit_code == 1 and json.loads(damaged.stdout)["ok"] is False
    assert call("client", "status", "--institution", tmp_path / "nowhere").exit_code == 2


@pytest.mark.parametrize("name", ["Amber", "../amber", "coordinator", "a" * 41, "-amber", ""])
def test_names_that_cannot_be_an_institutions(operator: Operator, tmp_path: Path, name: str) -> None:
    result = call("coordinator", "invite", "--home", operator.home.folder, "--out", tmp_path / "out.toml", "--", name)
    assert isinstance(result.exception, ConsortiumError) and not (tmp_path / "out.toml").exists()


def test_an_invitation_says_where_to_go(operator: Operator, tmp_path: Path) -> None:
    call("coordinator", "invite", "amber", "--home", operator.home.folder, "--out", tmp_path / "amber.toml")
    read = read_invitation(tmp_path / "amber.toml")
    assert (read.institution, read.coordinator, read.service) == ("amber", "the-operator", f"127.0.0.1:{operator.port}")
    assert bytes.fromhex(read.coordinator_key) == operator.home.identity.public_key
    assert read.key not in repr(read)
