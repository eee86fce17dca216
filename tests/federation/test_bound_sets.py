"""A second run from one state: it is of the institutions that the first one was of, or it fails; it does not try for ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.bound_sets import BoundSets
from coordinator.errors import JobError, SetLost
from coordinator.events import RunPaused, SumFinished
from coordinator.registry.records import Run
from coordinator.registry.states import RunState, WantedState
from coordinator.waiting import MOST_VAIN
from protocols.state import state_hash
from tests.federation.federation import NAMES, Federation, make_plan
from tests.federation.private_plans import SMALL

ALL, FEWER = tuple(sorted(NAMES)), ("ada", "bea", "cyd")


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path, make_plan(rounds=1, trainable=SMALL))
    yield made
    made.close()


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
            assert "resume" in run.reason
            federation.registry.set_wanted(run.run, WantedState.STOPPED)

    federation.means = {"patience": 1.0, "sleep": sleep}
    with pytest.raises(JobError, match="stopped by the operator"):
        federation.run()
    assert len(slept) == 1 + sum(2**vain - 1 for vain in range(MOST_VAIN)) and len(federation.of(RunPaused)) == MOST_VAIN + 1
