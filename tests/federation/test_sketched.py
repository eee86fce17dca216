"""Whole runs of `sketched`: two sums of one set a round, proposals that everyone adopts, and a training that outlives the first sum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.institution import Membership
from client.verify import verify_ledger
from coordinator.errors import JobError
from coordinator.events import RoundFinished, SumFinished
from protocols.secagg import propose_survivors
from protocols.state import State, state_hash
from protocols.transcript import confirmation
from tests.federation.federation import NAMES, Crash, Federation, make_plan
from tests.federation.scripted import Outcome, Script

DENSE = {"lora_rank": 2, "targets": ["attention", "lm_head"], "experts": "none"}
FAST = {"local_steps": 4, "batch_size": 2, "learning_rate": 0.5, "schedule": "constant"}


def federation_of(directory: Path, rounds: int = 2, **trainable: object) -> Federation:
    plan = make_plan(rounds=rounds, trainable={**DENSE, **trainable}, training=FAST, aggregation={"rule": "sketched"})
    return Federation(directory, plan)


def agreed(federation: Federation, run: str) -> set[bytes]:
    positions = [federation.nodes[name].ledger.position(run) for name in NAMES]
    return {position.state_hash for position in positions if position}


def trainings(federation: Federation) -> list[list[int]]:
    return [federation.works[name].trainings for name in NAMES]


def test_everyone_comes_to_the_sketched_factors_and_trains_once_a_round(tmp_path: Path) -> None:
    federation = federation_of(tmp_path)
    result = federation.run()
    assert agreed(federation, result.run) == {state_hash(result.state)} and not result.state.basis
    assert trainings(federation) == [[1, 2]] * 4
    figures = federation.registry.rounds(result.run)[-1].figures
    assert 0 < figures["replaced_modules"] <= figures["sketched_modules"] and figures["sketch_error"] < figures["plain_error"]
    assert not list(tmp_path.rglob("*-training.*")), "erased with the second sum"
    for name in NAMES:
        node = federation.nodes[name]
        audit = verify_ledger(node.ledger, Membership(name, node.roster, node.coordinator_key))
        assert not audit.failed
    federation.close()


def test_experts_are_averaged_beside_the_sketched_modules(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, rounds=1, expert_rank=2, experts="all")
    result = federation.run()
    start = federation.adaptation.initial(result.state.experts)
    assert any(np.any(values != start[name]) for name, values in result.state.tensors.items() if ".experts." in name)
    assert agreed(federation, result.run) == {state_hash(result.state)} and trainings(federation) == [[1]] * 4
    federation.close()


@pytest.mark.parametrize("kind", ["update", "update-2"])
def test_killed_coordinator_publishes_the_proposal_that_it_kept(tmp_path: Path, kind: str) -> None:
    first = federation_of(tmp_path)

    def fails(name: str, message_type: str) -> bool:
        done = first.of(SumFinished)
        if message_type == "query.transcript" and (done[-1].round, done[-1].kind) == (1, kind):
            raise Crash
        return False

    first.fails = fails
    with pytest.raises(Crash):
        first.run()
    first.close()
    second = federation_of(tmp_path)
    result = second.run()
    assert agreed(second, result.run) == {state_hash(result.state)}
    assert [event.missing for event in second.of(RoundFinished)] == [()] * 2
    assert trainings(second) == [[2]] * 4, "what was trained before is what the second sum is made of"
    second.close()


def test_who_was_absent_in_the_first_sum_returns_with_the_next_round(tmp_path: Path) -> None:
    federation = federation_of(tmp_path)
    federation.fails = lambda name, kind: name == "dov" and kind == "train.sum" and federation.of(RoundFinished)[-1:] != [] and (
        federation.of(RoundFinished)[-1].round == 0 and federation.of(SumFinished)[-1].kind == "evaluate"
    )  # fmt: skip
    result = federation.run()
    sets = {(one.round, one.kind): one.institutions for one in federation.of(SumFinished)}
    assert sets[1, "update"] == sets[1, "update-2"] == NAMES[:3] and sets[2, "update-2"] == NAMES
    assert agreed(federation, result.run) == {state_hash(result.state)}
    federation.close()


def test_second_sum_waits_for_everyone_of_the_first(tmp_path: Path) -> None:
    """A smaller set would show one institution's part of the sketch in the difference: none is proposed, and the sum is asked again."""
    federation = federation_of(tmp_path, rounds=1)
    silent = iter([True])

    def fails(name: str, kind: str) -> bool:
        before = [one.kind for one in federation.of(SumFinished)][-1:] == ["update"]
        return name == "dov" and kind == "train.sum" and before and next(silent, False)

    federation.fails = fails
    result = federation.run()
    assert [one.institutions for one in federation.of(SumFinished) if one.kind == "update-2"] == [NAMES]
    assert agreed(federation, result.run) == {state_hash(result.state)} and trainings(federation) == [[1]] * 4
    federation.close()


def test_run_without_one_of_the_first_sum_fails_and_says_whom_it_lacks(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, rounds=1)
    federation.fails = lambda name, _: name == "dov" and [one.kind for one in federation.of(SumFinished)][-1:] == ["update"]
    with pytest.raises(JobError, match="wait for dov"):
        federation.run()
    federation.close()


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """After the first measurement: the next sum is round 1's update."""
    federation = federation_of(tmp_path)
    made = Script(federation)
    made.follow(made.sum(made.set_up(NAMES), 0, "evaluate", 0), NAMES)
    yield made
    federation.close()


def with_proposal(script: Script, outcome: Outcome, kind: str) -> Outcome:
    """The outcome as an honest coordinator publishes it."""
    planned = script.planned(1, kind)
    proposal = script.terms.propose(outcome.after, planned)
    after = script.terms.adopt(outcome.after, planned, proposal)
    return altered(outcome, proposal, after)


def altered(outcome: Outcome, proposal: object, after: State) -> Outcome:
    return replace(outcome, proposal=proposal, after=after, transcript=replace(outcome.transcript, after=state_hash(after)))  # type: ignore[arg-type]


def test_proposals_that_do_not_hold_leave_the_node_where_it_was(script: Script) -> None:
    epoch = script.set_up(NAMES)
    honest = with_proposal(script, script.sum(epoch, 1, "update", 0), "update")
    place = script.place("ada")
    name = next(iter(honest.proposal))
    lie = {**honest.proposal, name: np.eye(*honest.proposal[name].shape, dtype=np.float32)}
    assert "misses the sketch's span" in script.publish("ada", altered(honest, lie, honest.after)).refusal
    assert "lacks basis/range/" in script.publish("bea", altered(honest, {}, honest.after)).refusal
    assert script.place("ada") == place


def confirmed(script: Script, outcome: Outcome) -> dict[str, bytes]:
    return {name: script.confirm(name, outcome.transcript, confirmation(outcome.transcript)) for name in NAMES[:3]}


def test_state_between_the_sums_is_adopted_with_its_basis_or_not_at_all(script: Script) -> None:
    epoch = script.set_up(NAMES)
    honest = with_proposal(script, script.sum(epoch, 1, "update", 0, NAMES[:3]), "update")
    after, name = honest.after, next(name for name in honest.after.basis if name.startswith("range/"))
    for basis in (
        {key: values for key, values in after.basis.items() if key != name},
        {**after.basis, name: after.basis[name][:, :-1]},
        {**after.basis, "core/lm_head": np.ones((2, 8), np.float32)},
    ):
        odd = altered(honest, honest.proposal, replace(after, basis=basis))
        assert "does not have the tensors" in script.hand_over("dov", odd.transcript, odd.after, confirmed(script, odd)).refusal
    free = altered(honest, honest.proposal, replace(after, pre_round=None))
    assert "who may continue the update" in script.hand_over("dov", free.transcript, free.after, confirmed(script, free)).refusal
    assert script.hand_over("dov", honest.transcript, after, confirmed(script, honest)).refusal == ""
    assert script.place("dov") == (state_hash(after), 2)


def test_nobody_signs_a_smaller_set_of_the_second_sum(script: Script) -> None:
    epoch = script.set_up(NAMES)
    script.follow(with_proposal(script, script.sum(epoch, 1, "update", 0), "update"), NAMES)
    manifest = script.manifest(epoch, 1, "update-2", 1)
    smaller = propose_survivors(manifest, script.collect(epoch, manifest, NAMES[:3]).roots)
    assert "smaller than the 4" in script.sign("ada", epoch, manifest, smaller).refusal
    whole = propose_survivors(manifest, script.collect(epoch, manifest, NAMES).roots)
    assert script.sign("ada", epoch, manifest, whole).refusal == ""


def test_who_was_not_in_the_first_sum_sends_nothing_in_the_second(script: Script) -> None:
    epoch = script.set_up(NAMES)
    script.follow(with_proposal(script, script.sum(epoch, 1, "update", 0, NAMES[:3]), "update"), NAMES)
    manifest = script.manifest(epoch, 1, "update-2", 1)
    assert "dov was not in the update of round 1 and returns with the next round" in script.send("dov", epoch, manifest).refusal
