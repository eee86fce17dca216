"""Whole private runs: what is charged, recorded and told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client import private_training
from client.errors import LedgerError
from client.verify_charges import verify_charges
from coordinator.events import EpochCertified, Event, RoundFinished
from coordinator.submitted_plan import promise_of
from protocols.errors import ConsortiumError
from protocols.policy import Policy
from protocols.privacy.accounting import Spend, epsilon
from tests.federation.federation import Federation
from tests.federation.private_plans import DISTRIBUTED, LOCAL, private_plan

THREE = ("ada", "bea", "cyd")


@pytest.fixture(name="federation")
def _federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path, private_plan(DISTRIBUTED), THREE)


def test_local_noise_keeps_the_plans_promise(tmp_path: Path) -> None:
    federation = Federation(tmp_path, private_plan(LOCAL | {"epsilon": 1.0}, rounds=1), THREE)
    result = federation.run()
    for node in federation.nodes.values():
        (charge,) = node.ledger.privacy.charges()
        assert charge.state == "spent" and isinstance(charge.spends[0], Spend) and charge.spends[0].steps == 4
        assert 0.98 < epsilon(charge.spends, 1e-5) <= 1.0
    assert result.state.round == 1
    federation.close()


def test_registry_has_the_bound_of_every_institution_and_no_loss(federation: Federation) -> None:
    run = federation.run().run
    before, *rounds = federation.registry.rounds(run)
    assert before.spent == ()
    for one in rounds:
        assert [(spent.institution, spent.epsilon, spent.delta) for spent in one.spent] == [(name, 8.0, 1e-5) for name in THREE]
        assert one.loss is None and one.metric is not None
    promise = str(promise_of(federation.registry.run(run)))
    for word in ("epsilon 8", "delta 1e-05", "one training record", "adversary: the coordinator with at most 1", "mechanism: distributed"):
        assert word in promise
    federation.close()


def test_every_institution_computes_the_same_model(federation: Federation) -> None:
    result = federation.run()
    states = {position.state_hash for node in federation.nodes.values() if (position := node.ledger.position(result.run))}
    start = federation.works["ada"].adaptation.initial({})
    assert len(states) == 1 and any(np.any(result.state.tensors[name] != values) for name, values in start.items())
    federation.close()


def test_a_run_over_budget_is_refused_before_it_starts(federation: Federation) -> None:
    for name, node in federation.nodes.items():
        federation.nodes[name] = replace(node, policy=Policy(max_epsilon=2.0))
    with pytest.raises(Exception, match=r"privacy\.epsilon is 8"):
        federation.run()
    assert all(not work.trainings for work in federation.works.values())
    federation.close()


def test_a_policy_that_was_tightened_ends_a_run_before_its_next_training(federation: Federation) -> None:
    def tighten(event: Event) -> None:
        if isinstance(event, RoundFinished) and event.round == 1:
            federation.nodes.update({n: replace(node, policy=Policy(max_epsilon=7.0)) for n, node in federation.nodes.items()})

    with pytest.raises(ConsortiumError):
        federation.run(tighten)
    assert all([one.round for one in node.ledger.privacy.charges()] == [1] for node in federation.nodes.values())
    federation.close()


def test_noised_counts_are_drawn_once(tmp_path: Path) -> None:
    training = {"local_steps": 1, "batch_size": 8, "learning_rate": 0.01, "label_prior": "corrected"}
    federation = Federation(tmp_path, private_plan(DISTRIBUTED, training=training), THREE)
    run = federation.run().run
    for node in federation.nodes.values():
        counts = node.ledger.privacy.label_counts(run)
        assert counts is not None and counts.tolist() != [300.0, 200.0] and np.abs(counts - [300, 200]).max() < 60
        assert [one.round for one in node.ledger.privacy.charges()] == [0, 1, 2]
    again = private_training.noised_counts(np.array([300.0, 200.0]), 5.0, bytes(32))
    assert again.tolist() == private_training.noised_counts(np.array([300.0, 200.0]), 5.0, bytes(32)).tolist()
    federation.close()


def test_a_ledger_whose_charges_were_taken_out_is_wrong(federation: Federation) -> None:
    run = federation.run().run
    ledger = federation.nodes["ada"].ledger
    assert verify_charges(ledger, run) == f"2 updates of run {run}, which adds noise, are charged as accepted."
    ledger._write("DELETE FROM privacy WHERE round = 2")
    with pytest.raises(LedgerError, match="round 2 of run .* was sent and is not charged"):
        verify_charges(ledger, run)
    federation.close()


def test_one_set_alone_can_be_opened_whoever_is_away(tmp_path: Path) -> None:
    """Where a share of the noise counts on three, an epoch without everybody asks as many to agree as one with everybody."""
    names = ("ada", "bea", "cyd", "dov", "eve", "flo", "gus")
    federation = Federation(tmp_path, private_plan(DISTRIBUTED, rounds=1, secure_aggregation={"min_institutions": 5}), names)
    federation.fails = lambda name, _: name == "gus"
    events: list[Event] = []
    federation.run(events.append)
    assert {(len(one.institutions), one.threshold) for one in events if isinstance(one, EpochCertified)} == {(6, 5)}
    federation.close()
