"""Institutions that train in turn: who is not in a round's batch follows later, and no set but a batch is ever signed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from coordinator.errors import JobError
from coordinator.events import EpochCertified, RoundFinished, StageFinished, SumFinished
from protocols.secagg import propose_survivors
from protocols.state import state_hash
from protocols.transcript import confirmation
from tests.federation.federation import NAMES, Crash, Federation, make_plan
from tests.federation.scripted import Script

SEVEN = (*NAMES, "eve", "flo", "gus")
ODD, EVEN = SEVEN[::2], SEVEN[1::2]  # four and three
DENSE = {"lora_rank": 2, "targets": ["lm_head"], "experts": "none"}
EXPERTS = {"lora_rank": 2, "expert_rank": 2, "targets": ["lm_head"], "experts": "all"}


def federation_of(directory: Path, rounds: int = 4, every: int = 1, trainable: dict[str, Any] = DENSE, **tables: Any) -> Federation:
    participation = {"quorum": 3, "deadline": "5s", "retries": 1, "batches": 2}
    content = {"rounds": rounds, "trainable": trainable, "participation": participation, "evaluation": {"every": every}, **tables}
    return Federation(directory, make_plan(**content), SEVEN)


def agreed(federation: Federation, run: str) -> set[bytes]:
    positions = [federation.nodes[name].ledger.position(run) for name in SEVEN]
    return {position.state_hash if position else b"" for position in positions}


def sets_of(federation: Federation, kind: str) -> dict[int, tuple[str, ...]]:
    return {event.round: event.institutions for event in federation.of(SumFinished) if event.kind == kind}


@pytest.mark.slow
@pytest.mark.parametrize(("every", "trainable"), [(1, DENSE), (6, DENSE), (3, EXPERTS)])
def test_batches_take_turns_and_everybody_ends_at_one_state(tmp_path: Path, every: int, trainable: dict[str, Any]) -> None:
    federation = federation_of(tmp_path, 6, every, trainable)
    result = federation.run()
    assert sets_of(federation, "update") == {number: ODD if number % 2 else EVEN for number in range(1, 7)}
    assert all(members == SEVEN for members in sets_of(federation, "evaluate").values())
    assert agreed(federation, result.run) == {state_hash(result.state)}
    assert [federation.works[name].trainings for name in ("ada", "bea")] == [[1, 3, 5], [2, 4, 6]]
    assert all(event.missing == () for event in federation.of(RoundFinished))
    rows = federation.registry.rounds(result.run)
    assert [row.institutions for row in rows] == [7, *(7 if number % every == 0 else 4 - (number + 1) % 2 for number in range(1, 7))]
    federation.close()


@pytest.mark.slow
def test_who_drops_out_of_its_batch_is_missing_from_it_alone_and_returns(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, every=5)

    def fails(name: str, kind: str) -> bool:
        first = not sets_of(federation, "update")
        return (name == "gus" and kind == "train.sum" and first) or (name == "bea" and first)

    federation.fails = fails
    result = federation.run()
    assert sets_of(federation, "update") == {1: ODD[:3], 2: EVEN, 3: ODD, 4: EVEN}
    assert [event.missing for event in federation.of(RoundFinished)] == [("bea",), ("gus",), (), (), ()]
    assert agreed(federation, result.run) == {state_hash(result.state)}
    federation.close()


@pytest.mark.slow
def test_opened_sets_are_a_batch_or_everybody_up_to_dropouts(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, rounds=3)
    federation.fails = lambda name, kind: name == "gus" and kind == "train.sum" and len(sets_of(federation, "update")) == 2
    federation.run()
    opened = {event.institutions for event in federation.of(SumFinished)}
    assert opened == {SEVEN, ODD, EVEN, ODD[:3]}
    whole = {members: members if members != ODD[:3] else ODD for members in opened}  # without its dropout
    assert all(whole[a] == whole[b] or len(set(whole[a]) ^ set(whole[b])) >= 3 for a, b in combinations(opened, 2))
    begun = [event.institutions for event in federation.of(EpochCertified)]
    assert begun[:4] == [SEVEN, ODD, SEVEN, EVEN], "each set of members has an epoch of its own"
    federation.close()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train.sum", "query.unmask", "query.transcript"])
def test_killed_coordinator_goes_on_with_the_same_batch(tmp_path: Path, stage: str) -> None:
    first = federation_of(tmp_path, rounds=3, every=3)

    def die(event: object) -> None:
        if isinstance(event, StageFinished) and (event.round, event.kind, event.stage) == (2, "update", stage):
            raise Crash

    with pytest.raises(Crash):
        first.run(die)
    first.close()
    second = federation_of(tmp_path, rounds=3, every=3)
    result = second.run()
    assert agreed(second, result.run) == {state_hash(result.state)}
    assert [first.works[name].trainings + second.works[name].trainings for name in ("ada", "bea")] == [[1, 3], [2]]
    assert [row.missing for row in second.registry.rounds(result.run)] == [()] * 4
    second.close()


def test_roster_that_makes_a_batch_too_small_ends_the_run_before_it_begins(tmp_path: Path) -> None:
    participation = {"quorum": 3, "deadline": "5s", "batches": 3}
    federation = Federation(tmp_path, make_plan(participation=participation, trainable=DENSE), SEVEN)
    with pytest.raises(JobError, match="of 7 institutions the smallest of 3 batches has 2 and a round needs 3"):
        federation.run()
    assert federation.registry.runs() == ()
    federation.close()


# A coordinator that does what it should not.


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    federation = federation_of(tmp_path)
    made = Script(federation)
    made.follow(made.sum(made.set_up(SEVEN), 0, "evaluate", 0), SEVEN)
    yield made
    federation.close()


def test_member_of_another_batch_is_not_smuggled_into_an_update(script: Script) -> None:
    smuggled = script.set_up((*ODD, "bea"))
    manifest = script.manifest(smuggled, 1, "update", 0)
    for name in ("ada", "bea"):
        assert "bea is not in the batch of round 1" in script.send(name, smuggled, manifest).refusal
        assert script.federation.works[name].trainings == []
    proposal = propose_survivors(manifest, dict.fromkeys(ODD, b"\1" * 32))
    assert "bea is not in the batch" in script.sign("ada", smuggled, manifest, proposal).refusal
    certificate = script.forge_certificate(manifest, proposal, ODD)
    assert "bea is not in the batch" in script.open("ada", smuggled, manifest, certificate).refusal


def test_transcript_of_another_set_than_the_batch_is_followed_by_nobody(script: Script) -> None:
    for members in ((*EVEN, "ada"), EVEN):
        outcome = script.forge_outcome(script.forge_epoch(members), 1, "update", 0)
        for name in ("ada", "bea"):
            assert "bea, dov, flo is not in the batch of round 1" in script.publish(name, outcome).refusal
    confirmed = {name: script.confirm(name, outcome.transcript, confirmation(outcome.transcript)) for name in EVEN}
    assert "is not in the batch" in script.hand_over("ada", outcome.transcript, outcome.after, confirmed).refusal


def test_next_batch_takes_over_where_the_last_ended(script: Script) -> None:
    outcome = script.sum(script.set_up(ODD), 1, "update", 0)
    script.follow(outcome, SEVEN)  # the others check the transcript of a batch that they are not in
    assert script.place("bea") == script.place("ada")
    manifest = script.manifest(script.set_up(SEVEN), 1, "evaluate", 0)
    assert manifest.state_hash == state_hash(outcome.after)
