"""Rosters that change while a run goes on: nobody else starts anew, and who is not accepted waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.institution import Membership
from client.verify import verify_ledger
from coordinator.errors import JobError
from coordinator.events import EpochCertified, Event, StageFinished, SumFinished
from coordinator.registry.records import Participant
from coordinator.transcripts import kept_parties, kept_transcripts
from protocols.identity import Identity
from protocols.parties import Parties
from protocols.roster import FormerKey, Roster, RosterEntry
from protocols.roster_offer import rotation
from protocols.state import state_hash
from protocols.transcript import verify_transcript
from tests.federation.federation import Crash, Federation, make_plan
from tests.federation.scripted import Script

FIVE = ("ada", "bea", "cyd", "dov", "eve")
DENSE = {"lora_rank": 2, "targets": ["lm_head"], "experts": "none"}


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path, make_plan(trainable=DENSE, rounds=2), FIVE)
    yield made
    made.close()


def without(roster: Roster, *names: str) -> Roster:
    return Roster(tuple(entry for entry in roster.entries if entry.name not in names))


def give(federation: Federation, roster: Roster, *names: str) -> None:
    """These institutions' own copies, with what leaves them among the former keys."""
    for name in names:
        node = federation.nodes[name]
        federation.nodes[name] = replace(node, roster=roster, former=node.parties.replaced_by(roster).former)


def at_first_update(federation: Federation, change: Callable[[], None], stage: str = "query.transcript") -> Callable[[Event], None]:
    """Once, at a stage of the first round's update."""
    left = [change]

    def notice(event: Event) -> None:
        if isinstance(event, StageFinished) and (event.round, event.kind, event.stage) == (1, "update", stage) and left:
            left.pop()()

    return notice


def sets(federation: Federation) -> list[tuple[str, ...]]:
    return [event.institutions for event in federation.of(SumFinished)]


def check_past(federation: Federation, run: str, *names: str) -> None:
    """Ledgers and the coordinator's transcripts verify, whatever the keys are by now, and everybody is at one state."""
    for name in names:
        node = federation.nodes[name]
        audit = verify_ledger(node.ledger, Membership(name, node.roster, node.coordinator_key, node.former))
        assert audit.ok, audit.failed
    directory = federation.directory / "runs" / run
    parties = kept_parties(directory)
    for one in kept_transcripts(directory).transcripts.values():
        verify_transcript(one, parties.roster_of(one.epoch), parties.coordinator_key)


def states(federation: Federation, run: str, *names: str) -> set[bytes]:
    positions = [federation.nodes[name].ledger.position(run) for name in names]
    return {position.state_hash if position else b"" for position in positions}


def test_institution_that_joins_takes_part_from_the_next_epoch_on(federation: Federation) -> None:
    whole = federation.roster
    federation.roster = without(whole, "eve")
    give(federation, federation.roster, *FIVE[:4])

    def join() -> None:
        federation.registry.record_participants([Participant("eve", whole.key_of("eve").hex())])
        federation.roster = whole
        give(federation, whole, *FIVE[:4])

    result = federation.run(at_first_update(federation, join))
    assert sets(federation)[:2] == [FIVE[:4], FIVE[:4]] and sets(federation)[-1] == FIVE
    assert [event.institutions for event in federation.of(EpochCertified)] == [FIVE[:4], FIVE]
    assert states(federation, result.run, *FIVE) == {state_hash(result.state)}
    check_past(federation, result.run, *FIVE)


def test_institution_that_nobody_accepted_waits_and_the_others_go_on(federation: Federation) -> None:
    give(federation, without(federation.roster, "eve"), *FIVE[:4])
    federation.run()
    assert set(sets(federation)) == {FIVE[:4]}
    reasons = {row.institution: row.missing_from for row in federation.registry.rounds(federation.registry.runs()[0].run)[-1].contributions}
    assert reasons["eve"] is not None


def test_institution_that_lacks_a_member_is_left_out_with_its_reason(federation: Federation) -> None:
    give(federation, without(federation.roster, "eve"), "ada")
    federation.run()
    assert set(sets(federation)) == {FIVE[1:]}


def test_too_few_that_accept_each_other_end_the_run_with_whom_it_waits_for(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_plan(trainable=DENSE), FIVE[:3])
    give(federation, without(federation.roster, "cyd"), "ada", "bea")
    with pytest.raises(JobError, match="cyd: it waits until ada, bea accept its identity"):
        federation.run()
    federation.close()


@pytest.mark.parametrize("stage", ["train.sum", "query.survivors", "query.transcript"])
def test_revocation_ends_the_epoch_and_not_the_sum(federation: Federation, stage: str) -> None:
    rest = without(federation.roster, "eve")

    def revoke() -> None:
        federation.roster = rest
        give(federation, rest, *FIVE[:4])

    result = federation.run(at_first_update(federation, revoke, stage))
    assert "eve" in sets(federation)[1], "what was under way is finished with those who sent"
    assert sets(federation)[-1] == FIVE[:4] and len(federation.of(EpochCertified)) == 2
    assert states(federation, result.run, *FIVE[:4]) == {state_hash(result.state)}
    check_past(federation, result.run, *FIVE[:4])


@pytest.mark.parametrize("stage", ["train.sum", "query.survivors", "query.transcript"])
def test_new_key_signs_from_the_next_epoch_on(federation: Federation, stage: str) -> None:
    new = Identity("bea", b"n" * 32)
    before, entries = federation.nodes["bea"].identity, federation.roster.entries
    rekeyed = Roster(tuple(RosterEntry("bea", new.public_key) if entry.name == "bea" else entry for entry in entries))

    def rotate() -> None:
        federation.roster = rekeyed
        give(federation, rekeyed, *FIVE)
        federation.nodes["bea"] = replace(federation.nodes["bea"], identity=new, former_identity=before)

    result = federation.run(at_first_update(federation, rotate, stage))
    assert set(sets(federation)) == {FIVE} and len(federation.of(EpochCertified)) == 2
    assert states(federation, result.run, *FIVE) == {state_hash(result.state)}
    assert federation.nodes["ada"].former == (FormerKey("bea", before.public_key),)
    check_past(federation, result.run, *FIVE)


def test_who_rotated_its_key_is_still_one_that_accepted_when_the_process_died(federation: Federation) -> None:
    new, before = Identity("bea", b"n" * 32), federation.nodes["bea"].identity
    entries = federation.roster.entries
    rekeyed = Roster(tuple(RosterEntry("bea", new.public_key) if entry.name == "bea" else entry for entry in entries))

    def rotate_and_die() -> None:
        federation.registry.rotate("bea", new.public_key.hex(), rotation("bea", before, new).signature.hex())
        federation.roster = rekeyed
        give(federation, rekeyed, *FIVE)
        federation.nodes["bea"] = replace(federation.nodes["bea"], identity=new, former_identity=before)
        raise Crash

    with pytest.raises(Crash):
        federation.run(at_first_update(federation, rotate_and_die))
    result = federation.run()
    assert set(sets(federation)) == {FIVE} and states(federation, result.run, *FIVE) == {state_hash(result.state)}


def test_institution_that_did_not_accept_a_new_key_is_left_out_until_it_does(federation: Federation) -> None:
    new = Identity("bea", b"n" * 32)
    rekeyed = Roster(tuple(RosterEntry("bea", new.public_key) if one.name == "bea" else one for one in federation.roster.entries))
    federation.roster = rekeyed
    federation.nodes["bea"] = replace(federation.nodes["bea"], identity=new)
    give(federation, rekeyed, "bea", "cyd", "dov", "eve")
    result = federation.run(at_first_update(federation, lambda: give(federation, rekeyed, "ada")))
    assert sets(federation)[0] == FIVE[1:] and sets(federation)[-1] == FIVE
    check_past(federation, result.run, *FIVE)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ours=st.sets(st.sampled_from(["dov", "eve", "zed"])),
    theirs=st.sets(st.sampled_from(["dov", "eve", "zed"])),
    members=st.sampled_from([("ada", "bea", "cyd"), ("ada", "bea", "cyd", "dov"), FIVE]),
    swapped=st.sampled_from(["", "cyd", "eve"]),
)
def test_nodes_agree_on_an_epoch_exactly_if_their_copies_agree_on_its_members(
    script: Script, ours: set[str], theirs: set[str], members: tuple[str, ...], swapped: str
) -> None:
    """The coordinator's roster is right; ada's copy has other institutions than bea's, and perhaps another key of one."""
    federation, sybil = script.federation, Identity("sybil", b"s" * 32).public_key
    whole = federation.roster
    zed = RosterEntry("zed", b"z" * 32)

    def copy(names: set[str], wrong: str) -> Roster:
        named = [entry for entry in (*whole.entries, zed) if entry.name in {"ada", "bea", "cyd"} | names]
        return Roster(tuple(replace(entry, public_key=sybil) if entry.name == wrong else entry for entry in named))

    nodes = federation.nodes
    federation.nodes = nodes | {
        "ada": replace(nodes["ada"], roster=copy(ours, swapped)),
        "bea": replace(nodes["bea"], roster=copy(theirs, "")),
    }
    terms = script.terms_of(members)
    answers = {name: script.announce(name, terms, whole.to_bytes()) for name in ("ada", "bea")}
    federation.nodes = nodes
    for name, own, wrong in (("ada", ours, swapped), ("bea", theirs, "")):
        lacks = set(members) - {"ada", "bea", "cyd"} - own | ({wrong} & set(members))
        assert all(one in answers[name].refusal for one in lacks) and bool(answers[name].refusal) == bool(lacks)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    federation = Federation(tmp_path_factory.mktemp("rosters"), make_plan(trainable=DENSE), FIVE)
    yield Script(federation)
    federation.close()


def test_a_runs_former_keys_are_kept_over_a_restart(tmp_path: Path) -> None:
    from coordinator.members import Members

    keys = {name: Identity(name, name[:1].encode() * 32).public_key for name in FIVE}
    first = Roster(tuple(RosterEntry(name, key) for name, key in keys.items()))
    second = without(first, "eve")
    Members(lambda: first, tmp_path, b"o" * 32)
    again = Members(lambda: second, tmp_path, b"o" * 32)
    assert again.parties == kept_parties(tmp_path) == Parties(second, b"o" * 32, (FormerKey("eve", keys["eve"]),))
