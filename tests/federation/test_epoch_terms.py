"""What a node asks of an epoch beyond its size: the coordinator's signature, a suite that it accepts, members of today, one ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.link import Subject
from protocols.epoch import EpochManifest, SharesMessage
from protocols.identity import Identity
from protocols.pack import pack
from protocols.policy import Policy
from protocols.roster import Roster
from protocols.suites import Suite
from tests.federation.federation import NAMES, Federation, make_plan
from tests.federation.scripted import Script

BOTH: tuple[Suite, ...] = ("SA-1", "SA-1-X25519")
YESTERDAY, TODAY = "2029-12-31", "2030-01-01"  # of the federation's clock


@pytest.fixture
def weaker(tmp_path: Path) -> Iterator[Script]:
    """A plan of the suite SA-1-X25519, at institutions that accept both suites."""
    trainable = {"lora_rank": 2, "targets": ["attention", "lm_head"], "experts": "none"}
    plan = make_plan(trainable=trainable, secure_aggregation={"suite": "SA-1-X25519"})
    federation = Federation(tmp_path / "weaker", plan)
    allow(federation, BOTH)
    yield Script(federation)
    federation.close()


def allow(federation: Federation, suites: tuple[Suite, ...]) -> None:
    for name, node in federation.nodes.items():
        federation.nodes[name] = replace(node, policy=Policy(suites=suites))


def with_days(script: Script, name: str, valid_from: str = "", valid_until: str = "") -> None:
    """Everybody's roster with days for one entry."""
    federation = script.federation
    entries = federation.roster.entries
    changed = (replace(e, valid_from=valid_from, valid_until=valid_until) if e.name == name else e for e in entries)
    federation.roster = Roster(tuple(changed))
    federation.nodes = {n: replace(node, roster=federation.roster) for n, node in federation.nodes.items()}


def test_suite_downgrade_is_refused(script: Script) -> None:
    weak = script.terms_of(NAMES, suite="SA-1-X25519")
    refusal = script.announce("ada", weak).refusal
    assert refusal == "the epoch's suite is SA-1-X25519; the plan's is SA-1 and the policy of ada allows SA-1"
    allow(script.federation, BOTH)  # even where the policy would allow it
    assert "the plan's is SA-1" in script.announce("ada", weak).refusal
    assert script.announce("ada", script.terms_of(NAMES)).refusal == ""


def test_suite_of_the_plan_that_the_policy_no_longer_allows_is_refused(weaker: Script) -> None:
    allow(weaker.federation, ("SA-1",))
    assert "the policy of ada allows SA-1" in weaker.announce("ada", weaker.terms_of(NAMES, suite="SA-1-X25519")).refusal
    assert "the plan's is SA-1-X25519" in weaker.announce("ada", weaker.terms_of(NAMES)).refusal


def test_sum_of_the_suite_without_mlkem_is_the_sum_of_the_other(weaker: Script, script: Script) -> None:
    totals = []
    for played, suite in ((weaker, "SA-1-X25519"), (script, "SA-1")):
        epoch = played.set_up(NAMES, suite=suite)
        totals.append(played.sum(epoch, 0, "evaluate", 0, NAMES[:3]).total)
    assert totals[0] == totals[1]


def test_transcript_of_a_weaker_suite_is_refused(script: Script) -> None:
    forged = script.forge_outcome(script.forge_epoch(NAMES[1:], suite="SA-1-X25519"), 0, "evaluate", 0)
    assert "the epoch's suite is SA-1-X25519" in script.publish("ada", forged).refusal


def altered(manifest: EpochManifest) -> list[EpochManifest]:
    """The terms changed, unsigned, and signed by somebody else."""
    stranger = Identity("operator", bytes(32))
    return [replace(manifest, slots=5), replace(manifest, signature=bytes(64)), manifest.signed_by(stranger.sign)]


def test_terms_that_the_coordinator_did_not_sign_are_refused(script: Script) -> None:
    for manifest in altered(script.terms_of(NAMES)):
        assert "not that of the coordinator" in script.announce("ada", manifest).refusal


def test_transcript_of_terms_that_the_coordinator_did_not_sign_is_refused(script: Script) -> None:
    for manifest in altered(script.terms_of(NAMES[1:])):
        outcome = script.forge_outcome(script.forge_epoch_of(manifest), 0, "evaluate", 0)
        assert "not that of the coordinator" in script.publish("ada", outcome).refusal


@pytest.mark.parametrize(
    ("days", "span"), [({"valid_until": YESTERDAY}, f"until {YESTERDAY}"), ({"valid_from": "2030-01-02"}, "from 2030-01-02")]
)
def test_member_that_is_not_valid_today_is_refused(script: Script, days: dict[str, str], span: str) -> None:
    with_days(script, "dov", **days)
    refusal = script.announce("ada", script.terms_of(NAMES)).refusal
    assert refusal.startswith("dov is on the roster") and span in refusal and f"today is {TODAY}" in refusal
    assert script.announce("ada", script.terms_of(NAMES[:3])).refusal == ""
    forged = script.forge_outcome(script.forge_epoch(NAMES[1:]), 0, "evaluate", 0)
    assert script.publish("ada", forged).refusal.startswith("dov is on the roster")


def test_member_is_valid_on_its_last_day(script: Script) -> None:
    with_days(script, "dov", valid_from=TODAY, valid_until=TODAY)
    assert script.announce("ada", script.terms_of(NAMES)).refusal == ""


def test_epoch_that_began_in_time_is_followed_to_its_end(script: Script) -> None:
    with_days(script, "dov", valid_until=TODAY)
    epoch = script.set_up(NAMES)
    outcome = script.sum(epoch, 0, "evaluate", 0)
    tomorrow = script.federation.nodes["ada"].ledger.today().replace(day=2)
    for node in script.federation.nodes.values():
        node.ledger.today = lambda: tomorrow  # type: ignore[method-assign]
    script.follow(outcome, NAMES)


@pytest.mark.parametrize("stage", ["query.epoch_shares", "query.epoch_confirm"])
def test_restored_ledger_does_not_go_on_with_a_setup(script: Script, stage: str) -> None:
    manifest = script.terms_of(NAMES)
    subject = Subject(0, "epoch", manifest.epoch, manifest.hash)
    keys = {"messages": pack({name: script.announce(name, manifest).parts["message"] for name in NAMES})}
    given = {"query.epoch_shares": keys}
    if stage == "query.epoch_confirm":
        sent = {name: script.must(name, subject, "query.epoch_shares", keys).parts["message"] for name in NAMES}
        given[stage] = {"messages": pack({name: SharesMessage.from_bytes(data).relayed(1).to_bytes() for name, data in sent.items()})}
    script.federation.nodes["ada"].ledger.incarnation = 2
    refusal = script.ask("ada", subject, stage, given[stage]).refusal
    assert refusal == "ada began this epoch with incarnation 1 of its ledger and goes on with 2; begin a new epoch"
