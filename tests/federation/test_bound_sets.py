"""A second run from one state: it is of the institutions that the first one was of, or it fails; it does not try for ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.evidence import read_evidence
from client.institution import Membership
from coordinator.bound_sets import BoundSets
from coordinator.errors import JobError, RunStopped, SetLost
from coordinator.events import EpochCertified, Event, RunPaused, SumFinished
from coordinator.registry.records import Run
from coordinator.registry.registry import Registry
from coordinator.registry.states import RunState, WantedState
from coordinator.store import Journal, RunStore
from coordinator.waiting import MOST_VAIN, is_at_rest
from protocols.roster import Roster
from protocols.state import state_hash
from tests.federation.federation import NAMES, Federation, make_plan
from tests.federation.private_plans import SMALL

ALL, FEWER = tuple(sorted(NAMES)), ("ada", "bea", "cyd")


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path, make_plan(rounds=1, trainable=SMALL))
    yield made
    made.close()


class Killed(BaseException):
    """The process ends."""


def without_dov(name: str, _: str) -> bool:
    return name == "dov"


def test_a_set_that_nobody_signed_gives_way_to_the_one_that_was_signed_before(federation: Federation) -> None:
    first = federation.run()
    federation.fails, federation.events = without_dov, []
    reasons: list[str] = []

    def come_back(_: float) -> None:
        reasons.append(federation.registry.runs()[1].reason)
        federation.fails = lambda *_: False

    federation.means = {"patience": 30.0, "sleep": come_back}
    second = federation.run()
    assert state_hash(second.state) == state_hash(first.state)
    assert "dov did not come back" in reasons[0] and "ada, bea, cyd, dov or not at all" in reasons[0]
    assert {one.institutions for one in federation.of(SumFinished)} == {ALL} and len(federation.of(RunPaused)) == 1


def test_a_set_that_one_more_institution_has_signed_fails_with_its_run(federation: Federation) -> None:
    federation.fails = without_dov
    first = federation.run()
    federation.fails, federation.means = lambda *_: False, {"patience": 30.0, "sleep": pytest.fail}
    with pytest.raises(SetLost, match=f"ada, bea, cyd signed the set ada, bea, cyd .* alike: {first.run}.* another seed, or .* dov"):
        federation.run()
    assert federation.registry.runs()[1].state is RunState.FAILED
    ada = federation.nodes["ada"]
    kept = read_evidence(ada.ledger, Membership("ada", ada.roster, ada.coordinator_key))
    assert kept and all("no proof to others" in one and "submitted again" in one for one in kept)


def test_as_many_as_may_lie_end_no_run_with_a_word(federation: Federation) -> None:
    federation.fails = lambda name, stage: stage == "query.survivors" and name != "ada"
    with pytest.raises(JobError):
        federation.run()  # ada alone is bound to the set of all

    def stop_at_rest(_: float) -> None:
        run = federation.registry.runs()[1]
        if is_at_rest(run):
            assert "ask ada first" in run.reason and "resume" in run.reason
            federation.registry.set_wanted(run.run, WantedState.STOPPED)

    federation.fails, federation.means = without_dov, {"patience": 1.0, "sleep": stop_at_rest}
    with pytest.raises(RunStopped):
        federation.run()


def test_members_that_lie_together_replace_no_set() -> None:
    named = BoundSets(ALL, {"ada": FEWER})
    assert named.other(1, ALL) is None and not named.is_lost(3)
    assert BoundSets(ALL, {"ada": FEWER, "bea": FEWER}).other(1, ALL) == FEWER
    assert BoundSets(ALL, {"ada": FEWER, "bea": FEWER}).other(1, ("ada", "bea")) is None
    assert BoundSets(ALL, {"ada": ALL, "bea": ALL}).refusing == ()


def test_a_sum_that_fails_though_all_are_there_rests_for_the_operator(federation: Federation) -> None:
    federation.fails = lambda _, stage: stage == "query.survivors"
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        run: Run = federation.registry.runs()[0]
        slept.append(seconds)
        if run.wanted is WantedState.PAUSED:
            assert "resume" in run.reason and is_at_rest(run), "which `coordinator resume` waits for"
            federation.registry.set_wanted(run.run, WantedState.STOPPED)

    federation.means = {"patience": 1.0, "sleep": sleep}
    with pytest.raises(JobError, match="stopped by the operator"):
        federation.run()
    assert len(slept) == 1 + sum(2**vain - 1 for vain in range(MOST_VAIN)) and len(federation.of(RunPaused)) == MOST_VAIN + 1


def test_a_process_that_dies_as_it_takes_the_other_set_goes_on_with_it(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    federation.run()
    federation.fails, federation.means = without_dov, {"patience": 30.0, "sleep": pytest.fail}
    write = RunStore.write

    def die(store: RunStore, journal: Journal) -> None:
        write(store, journal)
        if journal.replaced:
            raise Killed

    monkeypatch.setattr(RunStore, "write", die)
    with pytest.raises(Killed):
        federation.run()
    monkeypatch.setattr(RunStore, "write", write)
    federation.fails = lambda *_: False
    federation.run()
    assert {one.institutions for one in federation.of(SumFinished)} == {ALL}


def test_who_refuses_a_set_does_not_hold_up_as_many_as_open_it_alone(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_plan(rounds=1, trainable=SMALL), (*NAMES, "eve"))
    federation.fails = lambda name, stage: stage == "query.survivors" and name != "ada"
    with pytest.raises(JobError):
        federation.run()  # ada alone is bound to the set of all five
    federation.fails, federation.events = lambda name, stage: name == "eve" and stage == "evaluate.sum", []
    federation.run()
    assert federation.of(SumFinished)[0].institutions == ALL
    assert [(one.institutions, one.threshold) for one in federation.of(EpochCertified)[:2]] == [((*ALL, "eve"), 4), (ALL, 3)]
    federation.close()


def test_a_stop_counts_while_the_run_is_put_to_rest_and_a_kill_leaves_its_reason(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation.fails, federation.means = lambda _, stage: stage == "query.survivors", {"patience": 1.0, "sleep": lambda _: None}
    wanted = Registry.set_wanted

    def die(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(Registry, "set_wanted", die)
    with pytest.raises(Killed):
        federation.run()
    monkeypatch.setattr(Registry, "set_wanted", wanted)
    (run,) = federation.registry.runs()
    assert run.state is RunState.PAUSED and "resume it" in run.reason

    def stop(event: Event) -> None:
        if isinstance(event, RunPaused) and "resume it" in event.reason:
            federation.registry.set_wanted(run.run, WantedState.STOPPED)

    with pytest.raises(RunStopped):
        federation.run(stop)


def test_a_run_whose_set_has_a_revoked_member_says_so_when_it_tries_again(federation: Federation) -> None:
    federation.run()
    federation.fails = without_dov

    reasons: list[str] = []

    def revoke_and_ask_again(_: float) -> None:
        run = federation.registry.runs()[1]
        assert len(reasons) < 10, reasons
        reasons.append(run.reason)
        if "was revoked" in run.reason:
            wanted = WantedState.STOPPED
        else:
            federation.roster = Roster(tuple(entry for entry in federation.roster.entries if entry.name != "dov"))
            wanted = WantedState.RUNNING if run.wanted is WantedState.PAUSED else WantedState.PAUSED
        federation.registry.set_wanted(run.run, wanted)

    federation.means = {"patience": 1.0, "sleep": revoke_and_ask_again}
    with pytest.raises(RunStopped):
        federation.run()
    assert "dov did not come back" in reasons[0] and "so bring it back, or stop the run" in reasons[0]
    assert "dov was revoked" in reasons[-1] and "another `seed`" in reasons[-1] and "bring it back" not in reasons[-1]
