"""Approving plans and reading the policy on the command line, while the node's ledger is open."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from client.accepting import accept_plan
from client.cli import app
from client.institution import Membership, write_membership
from client.ledger import Ledger
from client.node import Node
from client.settings import InstitutionSettings, write_settings
from protocols.errors import PolicyError
from protocols.identity import Identity
from protocols.plan import Plan
from protocols.policy import Policy, write_policy
from protocols.roster import Roster, RosterEntry
from tests.federation.federation import make_plan

TERMS = b"nothing leaves the house\n"
PLAN: Plan = make_plan().model_copy(update={"terms_sha256": hashlib.sha256(TERMS).hexdigest()})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    settings = {"records": {"source": "records.jsonl", "split": "split"}, "storage": {"home": str(tmp_path / "node")}}
    write_settings(tmp_path / "institution.toml", InstitutionSettings.model_validate(settings))
    write_policy(tmp_path / "policy.toml", Policy(approval="plan", hours="22:00-06:00"))
    write_membership(tmp_path, Membership("ada", roster(), bytes(32)))
    return tmp_path


@pytest.fixture
def node(folder: Path) -> Iterator[Node]:
    """At work, with one plan waiting."""
    ledger = Ledger.open(folder / "node", lambda: datetime(2030, 1, 1, tzinfo=UTC))
    made = Node(identity(), roster(), bytes(32), Policy(approval="plan"), ledger, lambda _: None, bytes, datetime.now)  # type: ignore[arg-type, return-value]  # no base is asked for
    with pytest.raises(PolicyError, match="client approve triage-1"):
        accept_plan(made, "triage-1", PLAN.canonical())
    yield made
    ledger.close()


def identity() -> Identity:
    return Identity("ada", bytes(32))


def roster() -> Roster:
    return Roster((RosterEntry("ada", identity().public_key),))


def call(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--institution", str(folder)])


def test_the_list_tells_what_decides(folder: Path, node: Node) -> None:
    text = call(folder, "approve").output
    for said in (
        "triage-1: plan triage, 2 rounds on the base tiny",
        "trains attention, lm_head",
        "note, code",
        PLAN.terms_sha256,
        "no noise",
    ):
        assert said in text
    (waiting,) = json.loads(call(folder, "approve", "--json").output)["waiting"]
    assert waiting["plan"] == {"name": "triage", "sha256": PLAN.sha256} and waiting["decision"] is None


def test_an_approved_plan_is_accepted_in_writing(folder: Path, node: Node) -> None:
    (folder / "terms.txt").write_bytes(TERMS)
    done = call(folder, "approve", "triage", "--terms", str(folder / "terms.txt"))
    assert done.exit_code == 0 and "compared with the text" in done.output
    assert "approved, and signed when the coordinator asks next" in call(folder, "approve").output
    accept_plan(node, "triage-1", PLAN.canonical())
    assert "no plan waits for the approval of ada" in call(folder, "approve").output
    first = node.ledger.accepted.acceptance("triage-1")
    accept_plan(node, "triage-1", PLAN.canonical())
    assert first is not None and node.ledger.accepted.acceptance("triage-1") == first
    again = call(folder, "approve", "triage-1", "--refuse", "no")
    assert again.exit_code == 2 and "consortium client withdraw triage-1" in again.output


def test_another_text_than_the_plans_decides_nothing(folder: Path, node: Node) -> None:
    (folder / "terms.txt").write_bytes(b"everything leaves the house\n")
    done = call(folder, "approve", "triage-1", "--terms", str(folder / "terms.txt"))
    assert done.exit_code == 1 and "nothing was decided" in done.output
    with pytest.raises(PolicyError, match="waits for its own people"):
        accept_plan(node, "triage-1", PLAN.canonical())


def test_a_refused_plan_is_refused_with_the_reason_until_somebody_approves(folder: Path, node: Node) -> None:
    assert call(folder, "approve", "triage-1", "--refuse", "the board said no").exit_code == 0
    with pytest.raises(PolicyError, match="ada refused the plan triage: the board said no"):
        accept_plan(node, "triage-1", PLAN.canonical())
    assert call(folder, "approve", "triage-1").exit_code == 0
    accept_plan(node, "triage-1", PLAN.canonical())


def test_a_run_that_does_not_wait_is_wrong_use(folder: Path, node: Node) -> None:
    assert call(folder, "approve", "other").exit_code == 2
    assert call(folder, "approve", "--refuse", "no").exit_code == 2


def test_the_policy_is_shown_and_explained(folder: Path) -> None:
    assert 'hours = "22:00-06:00"' in call(folder, "policy").output
    assert "from 22:00 to 06:00 by the clock of this machine" in call(folder, "policy", "explain").output
    assert json.loads(call(folder, "policy", "--json").output)["policy"]["approval"] == "plan"
    (folder / "policy.toml").write_text("hour = 1\n")
    done = call(folder, "policy", "explain")
    assert done.exit_code == 1 and "did you mean hours" in done.output


def test_a_plan_writes_nothing_onto_the_terminal_that_it_obeys(folder: Path, node: Node) -> None:
    """To be approved as another plan than it is: what a plan says of itself overwrites what is said of it."""
    base = PLAN.base.model_copy(update={"name": "tiny\x1b[2J\u202e\n  trains nothing"})
    with pytest.raises(PolicyError, match="client approve triage-2"):
        accept_plan(node, "triage-2", PLAN.model_copy(update={"base": base}).canonical())
    shown = call(folder, "approve").output
    assert "tiny\\x1b[2J\\u202e\\n  trains nothing" in shown and "\x1b" not in shown
