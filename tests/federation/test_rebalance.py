"""Whole runs whose coordinator re-balances: everyone adopts its bytes, and a proposal that does not hold leaves a node where it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coordinator.events import RoundFinished, SumFinished
from protocols.proposals import Proposal
from protocols.state import State, state_hash
from tests.federation.federation import NAMES, Crash, Federation, make_plan
from tests.federation.scripted import Outcome, Script

DENSE = {"lora_rank": 2, "targets": ["lm_head"], "experts": "none"}
BALANCED = {"rebalance_every": 1, "server_optimizer": "nesterov"}
A, B = "lm_head.lora_A.weight", "lm_head.lora_B.weight"


def federation_of(directory: Path, rounds: int = 3) -> Federation:
    return Federation(directory, make_plan(rounds=rounds, trainable=DENSE, aggregation=BALANCED))


def agreed(federation: Federation, run: str) -> set[bytes]:
    positions = [federation.nodes[name].ledger.position(run) for name in NAMES]
    return {position.state_hash for position in positions if position}


def orthonormal(state: State) -> bool:
    a = state.tensors[A].astype(np.float64)
    return bool(np.abs(a @ a.T - np.eye(len(a))).max() < 1e-6)


def test_everyone_adopts_the_published_factors(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, rounds=2)
    result = federation.run()
    assert orthonormal(result.state) and agreed(federation, result.run) == {state_hash(result.state)}
    federation.close()


def test_killed_coordinator_publishes_the_proposal_that_it_kept(tmp_path: Path) -> None:
    first = federation_of(tmp_path)
    lost = [False]

    def fails(name: str, kind: str) -> bool:
        lost[0] = kind == "query.transcript" and (first.of(SumFinished)[-1].round, first.of(SumFinished)[-1].kind) == (2, "update")
        if lost[0]:
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
    second.close()


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """After round 1 and its pre-round 0: the next sum is the update that trains A."""
    federation = federation_of(tmp_path, rounds=2)
    made = Script(federation)
    epoch = made.set_up(NAMES)
    for slot, (number, kind) in enumerate([(0, "evaluate"), (1, "update"), (1, "evaluate")]):
        made.follow(made.sum(epoch, number, kind, slot), NAMES)
    yield made
    federation.close()


def with_proposal(script: Script, outcome: Outcome, proposal: Proposal, after: State) -> Outcome:
    return replace(outcome, proposal=proposal, after=after, transcript=replace(outcome.transcript, after=state_hash(after)))


def test_proposal_that_does_not_hold_leaves_the_node_where_it_was(script: Script) -> None:
    outcome = script.sum(script.set_up(NAMES), 2, "update", 0)
    planned, places = script.planned(2, "update"), [script.place(name) for name in NAMES[:2]]
    proposal = dict(script.terms.propose(outcome.after, planned))
    honest = script.terms.adopt(outcome.after, planned, proposal)
    altered = {**proposal, f"tensors/{B}": proposal[f"tensors/{B}"] * np.float32(1.001)}
    claimed = replace(honest, tensors={**honest.tensors, B: altered[f"tensors/{B}"]})
    assert "changes the product BA by 0.001" in script.publish("ada", with_proposal(script, outcome, altered, claimed)).refusal
    assert "does not lead to" in script.publish("bea", with_proposal(script, outcome, {}, honest)).refusal
    assert [script.place(name) for name in NAMES[:2]] == places
    assert script.publish("cyd", with_proposal(script, outcome, proposal, honest)).refusal == ""
    assert script.place("cyd")[0] == state_hash(honest)


def test_proposal_is_refused_where_the_plan_has_none(script: Script) -> None:
    script.follow(script.sum(script.set_up(NAMES), 2, "update", 0), NAMES)
    outcome = script.sum(script.set_up(NAMES), 2, "evaluate", 0)
    proposal = script.terms.propose(outcome.after, script.planned(2, "update"))
    after = script.terms.adopt(outcome.after, script.planned(2, "update"), proposal)
    assert "nothing proposed after the evaluate sum" in script.publish("ada", with_proposal(script, outcome, proposal, after)).refusal
