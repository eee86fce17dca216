"""An institution that was revoked comes back by the commands of `docs/operate.md`, with its ledger, and is told so wherever it asks."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from client.begun import check_not_lost, mark_begun
from client.errors import JoiningError, LedgerError
from client.institution import read_membership
from client.joining import fetch_certificate, join
from client.ledger import Ledger
from client.only_node import only_node
from client.succession import take_over
from consortium.cli import app
from protocols.policy import Policy, load_policy, write_policy
from tests.consortium.command_line import ROOT
from tests.deployment.operator import Operator, now

HEADING = "**An institution comes back after a revocation.**"


@dataclass(frozen=True)
class Place:
    """Where amber and birch are members of one operator; amber was revoked, and its words were others then."""

    operator: Operator
    words: str


@pytest.fixture
def place(operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    with operator.serving():
        for name in ("amber", "birch"):
            join(Path(name), operator.invite(name, Path(f"{name}.toml")), now, os.urandom)
            operator.approve(name)
        words = fetch_certificate(Path("amber"), now).fingerprint
        fetch_certificate(Path("birch"), now)
        assert call("consortium client roster accept amber --institution birch --fingerprint " + words).exit_code == 0
        Ledger.open(Path("amber/node"), now).close()
        mark_begun(Path("amber"))
        write_policy(Path("amber/policy.toml"), Policy(min_institutions=5))
        assert call("consortium coordinator participants revoke amber --reason 'it left' --home operator").exit_code == 0
        yield Place(operator, words)


def call(line: str, given: str = "") -> Result:
    return CliRunner().invoke(app, shlex.split(line)[1:], input=given)


def commands() -> list[str]:
    section = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8").split(HEADING)[1].split("\n**")[0]
    return [line for block in re.findall(r"^```text\n(.*?)^```", section, re.DOTALL | re.MULTILINE) for line in block.splitlines()]


def test_it_comes_back_by_the_commands_of_the_page(place: Place) -> None:
    invite, init, listing, approve, status, accept = commands()
    assert "amber was revoked (it left)" in call(invite).stdout
    asked = call(init)
    assert asked.exit_code == 0 and "waiting" in asked.stdout
    words = re.search(r"^    (\S+)$", asked.stdout, re.MULTILINE)
    assert words is not None and words[1] != place.words
    listed = call(listing).stdout
    assert "waiting" in listed and words[1] in listed and place.words not in listed and "revoked before (it left)" in listed
    approved = call(approve, given="y\n")
    assert "amber was revoked (it left) and asks to come back" in approved.stdout and words[1] in approved.stdout
    assert approved.exit_code == 0 and "approved" in call(status).stdout
    assert call(f"{accept.replace(' --fingerprint WORDS', '')} --institution birch", given="y\n").exit_code == 1, (
        "nobody swaps a key unasked"
    )
    assert call(f"{accept.replace('WORDS', words[1])} --institution birch").exit_code == 0
    former, new = read_membership(Path("birch")), read_membership(Path("amber-new"))
    assert former.roster.key_of("amber") == new.roster.key_of("amber") != former.former[0].public_key == new.former[0].public_key


def test_ledger_and_policy_move_and_no_node_answers_in_the_former_folder(place: Place) -> None:
    invite, init, *_ = commands()
    call(invite)
    assert call(init).exit_code == 0 and call(init).exit_code == 0, "repeated, it goes on"
    with closing(Ledger.open(Path("amber-new/node"), now)) as ledger:
        assert ledger.runs() == ()
    assert load_policy(Path("amber-new/policy.toml")).min_institutions == 5
    with pytest.raises(LedgerError, match="has no ledger, and this institution had one"):
        check_not_lost(Path("amber"), Path("amber/node"))


def test_a_ledger_in_use_stays(place: Place) -> None:
    invite, init, *_ = commands()
    call(invite)
    call(init.replace(" --former amber", ""))

    def no_time(_: float) -> None:
        """Passes."""

    with only_node(Path("amber/node")), pytest.raises(LedgerError, match="another node answers"):
        take_over(Path("amber"), Path("amber-new"), no_time)
    Path("amber-new/node").mkdir()
    with pytest.raises(JoiningError, match="both have a ledger"):
        take_over(Path("amber"), Path("amber-new"), no_time)
    for former, folder, fault in (("birch", "another", "not a folder of amber"), ("amber", "amber", "the folder with the former keys")):
        done = call(f"consortium client init --invite amber-again.toml --institution {folder} --former {former}")
        assert done.exit_code == 1 and fault in done.output and not Path("another").exists()


def test_the_former_folder_says_how_it_comes_back(place: Place) -> None:
    told = "amber was revoked (it left); ask the operator what happened, and come back with a new invitation: in a new folder"
    assert call("consortium coordinator invite amber --home operator --out again.toml").exit_code == 0
    before = {path: path.read_bytes() for path in Path("amber").rglob("*") if path.is_file()}
    for command in ("init --invite again.toml --institution amber", "status --institution amber"):
        done = call(f"consortium client {command}")
        assert done.exit_code == 1 and told in done.output and "approved" not in done.output
    assert {path: path.read_bytes() for path in Path("amber").rglob("*") if path.is_file()} == before
    Path("amber/tls.pem").unlink()  # stands for a certificate that has ended
    assert told in call("consortium client init --invite again.toml --institution amber").output
    unasked = call("consortium coordinator participants approve amber --home operator", given="y\n")
    assert "amber was revoked (it left) and has not asked to come back" in str(unasked.exception)


def test_a_refused_return_leaves_the_revocation(place: Place) -> None:
    invite, init, listing, *_ = commands()
    call(invite)
    call(init)
    assert call("consortium coordinator participants refuse amber --reason 'other words' --home operator").exit_code == 0
    (amber,) = [one for one in json.loads(call(f"{listing} --json").stdout)["participants"] if one["name"] == "amber"]
    assert (amber["state"], amber["fingerprint"]) == ("revoked", place.words)
