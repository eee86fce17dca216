"""An institution that was revoked and approved again under a new key comes back into a run that waits for it, once it is accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coordinator.countersigned import SignedRun
from coordinator.errors import ChainBroken, RunStopped
from coordinator.events import EpochCertified, Event, RoundFinished, RunPaused
from coordinator.members import Members
from coordinator.offers import present_roster
from coordinator.registry.records import Invitation, JoinRequest, Participant
from coordinator.registry.states import WantedState
from coordinator.row_audit import keys_before_return
from coordinator.verify import verify_registry
from protocols.audit import Audit
from protocols.identity import Identity
from protocols.parties import Parties
from protocols.roster import Roster
from protocols.state import state_hash
from tests.federation.federation import Federation, make_plan

THREE = ("ada", "bea", "cyd")
NEW = Identity("cyd", b"n" * 32)
DENSE = {"lora_rank": 2, "targets": ["lm_head"], "experts": "none"}


@dataclass
class Office:
    """The operator's registry, whose roster the run takes; each wait of the run does the next of `steps`."""

    federation: Federation
    steps: list[Callable[[], None]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def revoke(self) -> None:
        self.federation.registry.revoke("cyd", "its key was stolen")
        self.take_roster()

    def readmit(self) -> None:
        readmit(self.federation)
        self.take_roster()

    def return_under_new_key(self) -> None:
        """With its ledger and with the former key on its roster, as `client init --former` leaves a folder."""
        node = self.federation.nodes["cyd"]
        former = node.parties.replaced_by(self.federation.roster).former
        self.federation.nodes["cyd"] = replace(node, identity=NEW, roster=self.federation.roster, former=former)

    def accept(self) -> None:
        for name in THREE[:2]:
            node = self.federation.nodes[name]
            former = node.parties.replaced_by(self.federation.roster).former
            self.federation.nodes[name] = replace(node, roster=self.federation.roster, former=former)

    def stop(self) -> None:
        self.federation.registry.set_wanted(self.federation.registry.runs()[0].run, WantedState.STOPPED)

    def take_roster(self) -> None:
        self.federation.roster = present_roster(self.federation.registry)

    def wait(self, _: float) -> None:
        (run,) = self.federation.registry.runs()
        self.said.append(run.reason)
        self.steps.pop(0)()


def readmit(federation: Federation, key: bytes = NEW.public_key) -> Participant:
    registry = federation.registry
    registry.invite(Invitation("cyd", "a" * 64, datetime(2099, 1, 1, tzinfo=UTC)))
    registry.request_join(JoinRequest("cyd", key.hex(), "ecdsa-sha2-nistp384 AAAA", "request", "5" * 128))
    return registry.approve("cyd", "c" * 64)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    federation = Federation(
        tmp_path, make_plan(trainable=DENSE, rounds=2, participation={"quorum": 3, "deadline": "5s", "retries": 0}), THREE
    )
    made = Office(federation)
    federation.means = {"patience": 30.0, "sleep": made.wait}
    yield made
    federation.close()


def revoked_after_round_1(office: Office) -> Callable[[Event], None]:
    def notice(event: Event) -> None:
        if isinstance(event, RoundFinished) and event.round == 1:
            office.revoke()

    return notice


def audited(federation: Federation) -> Audit:
    return verify_registry(federation.registry, federation.directory / "models", None, federation.directory / "runs")


def nothing() -> None:
    """Time passes."""


def test_a_run_takes_an_institution_back_once_the_others_accepted_its_new_key(office: Office) -> None:
    federation, before = office.federation, office.federation.nodes["cyd"].identity.public_key
    # While nobody accepted the new key the run attempts the sum ever more seldom, and never stops of itself.
    office.steps = [office.readmit, office.return_under_new_key, *[nothing] * 40, office.accept, *[nothing] * 31]
    result = federation.run(revoked_after_round_1(office))
    assert "cyd: the operator revoked it (its key was stolen)" in office.said[0] and "none is connected" not in office.said[0]
    assert "cyd: it waits until ada, bea accept its identity" in office.said[20]
    assert "failed" not in "".join(office.said)
    assert [event.institutions for event in federation.of(EpochCertified)] == [THREE, THREE]
    positions = [federation.nodes[name].ledger.position(result.run) for name in THREE]
    assert {position.state_hash for position in positions if position} == {state_hash(result.state)}
    parties = Members(lambda: federation.roster, federation.directory / "runs" / result.run, b"o" * 32).parties
    assert parties.keys_of("cyd") == (NEW.public_key, before)
    audit = audited(federation)
    assert audit.ok, audit.failed


def test_another_key_that_nobody_accepted_is_in_no_epoch(office: Office) -> None:
    """A coordinator that revokes and approves at will holds the new key itself: without the others' acceptance nothing begins."""
    office.steps = [office.readmit, office.return_under_new_key, *[nothing] * 20, office.stop]
    with pytest.raises(RunStopped):
        office.federation.run(revoked_after_round_1(office))
    assert len(office.federation.of(EpochCertified)) == 1


def test_what_a_waiting_run_says_follows_who_is_away(office: Office) -> None:
    away: set[str] = set()
    office.federation.fails = lambda name, _: name in away
    office.steps = [lambda: away.add("bea"), nothing, nothing, office.stop]
    with pytest.raises(RunStopped):
        office.federation.run(revoked_after_round_1(office))
    first, second, third, last = office.said
    assert "bea: " not in first and "2 institutions take part" in first
    assert "bea: " in second and "1 institutions take part" in second and "cyd: the operator revoked it" in second
    assert third == last and len(office.federation.of(RunPaused)) == len(set(office.said))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A finished run, whose third institution was revoked and approved again since."""
    made = Federation(tmp_path_factory.mktemp("finished"), make_plan(trainable=DENSE, rounds=1), THREE)
    made.run()
    made.registry.revoke("cyd", "left")
    readmit(made)
    yield made
    made.close()


def test_a_finished_run_is_verified_by_the_keys_of_its_day(finished: Federation) -> None:
    audit = audited(finished)
    assert audit.ok, audit.failed


@pytest.mark.parametrize("missing", ["participant-revoked", "participant-approved"])
def test_a_key_that_changed_without_revocation_and_approval_stays_wrong(finished: Federation, missing: str) -> None:
    events = [event for event in finished.registry.events() if event.kind != missing]
    given_up = keys_before_return(events)
    signed = SignedRun("run", (), finished.registry.participants(), Parties(finished.roster, b"o" * 32), given_up=given_up)
    with pytest.raises(ChainBroken, match="another key of cyd than the roster that was given"):
        signed.parties(finished.directory)


def test_a_key_of_nobody_stays_wrong(finished: Federation) -> None:
    """The former key counts for its own institution alone, and no third key does."""
    given_up = keys_before_return(finished.registry.events())
    other = replace(finished.roster.entries[2], public_key=b"x" * 32)
    for entries in ((*finished.roster.entries[:2], other), (replace(finished.roster.entries[2], name="abe"), *finished.roster.entries[:2])):
        parties = Parties(Roster(tuple(entries)), b"o" * 32)
        signed = SignedRun("run", (), finished.registry.participants(), parties, given_up=given_up)
        with pytest.raises(ChainBroken, match="another key of"):
            signed.parties(finished.directory)
