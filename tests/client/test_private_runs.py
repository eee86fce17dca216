"""On which terms an institution takes part: its noise keeps the plan's promise, its budget holds over runs, refusals tell no figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from client.accepting import accept_plan
from client.node import Node
from client.private_runs import check_budget, private_run
from protocols.errors import PolicyError, PrivacyError, Refusal
from protocols.plan import Plan
from protocols.policy import Policy
from protocols.privacy.accounting import Release, Spend, epsilon
from protocols.terms import Terms
from tests.federation.attacks.weakened import weakened
from tests.federation.federation import Crash, Federation, FormulaPrivate, FormulaWork, make_plan
from tests.federation.private_plans import DISTRIBUTED, LOCAL, private_plan

LABELS = {"local_steps": 4, "batch_size": 8, "learning_rate": 0.01, "label_prior": "corrected"}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    federation = Federation(tmp_path, private_plan(LOCAL), names=("ada", "bea", "cyd"))
    yield federation.nodes["ada"]
    federation.close()


def terms_of(node: Node, plan: Plan) -> Terms:
    return Terms(plan, node.open_work(plan).adaptation)


def die(*_: object) -> None:
    raise Crash


def of(node: Node, units: int, policy: Policy | None = None) -> Node:
    """The node with so many units."""
    works: list[FormulaWork] = []

    def open_work(plan: Plan) -> FormulaWork:
        work = node.open_work(plan)
        assert isinstance(work, FormulaWork)

        class Counted(FormulaWork):
            @property
            def private(self) -> FormulaPrivate:
                return FormulaPrivate(self, units)

        works.append(Counted(work.name, plan, work.adaptation))
        return works[-1]

    return replace(node, open_work=open_work, policy=policy or node.policy)


def test_the_whole_run_costs_what_the_plan_promises(node: Node) -> None:
    plan = private_plan(LOCAL, training=LABELS)
    found = private_run(plan, terms_of(node, plan), 500)
    assert found.sampling_rate == 8 / 500 and found.label_noise is not None
    assert found.spends[1] == (Spend(8 / 500, found.noise_multiplier, 4),) and found.spends[0] == (Release(found.label_noise),)
    assert 7.9 < epsilon(found.whole, 1e-5) <= 8.0


def test_few_units_take_part_in_every_step(node: Node) -> None:
    plan = private_plan(LOCAL)
    assert private_run(plan, terms_of(node, plan), 5).sampling_rate == 1.0


def test_public_noise_is_checked_for_the_own_sampling_rate(node: Node) -> None:
    plan = private_plan(DISTRIBUTED | {"epsilon": 1.0})
    assert private_run(plan, terms_of(node, plan), 5000).noise_multiplier == 1.0
    with pytest.raises(PrivacyError, match=r"costs epsilon .* a noise_multiplier of about \d"):
        private_run(plan, terms_of(node, plan), 20)


def test_a_refusal_says_nothing_of_how_many_records_there_are(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    plan = private_plan(DISTRIBUTED | {"epsilon": 1.0})
    with pytest.raises(PolicyError) as refused:
        accept_plan(of(node, 23), "run", plan.canonical())
    assert str(refused.value) == "ada cannot keep the plan's [privacy] on its records; its own log says why"
    assert "would do" in caplog.text and node.ledger.plan("run") is None
    with pytest.raises(PolicyError, match="not below 1 / N of the records at ada") as refused:
        accept_plan(of(node, 123456), "run", plan.canonical())
    assert "123456" not in str(refused.value) and "123456" in caplog.text


def test_groups_need_a_column(node: Node) -> None:
    with pytest.raises(PolicyError, match=r"name their column as records\.group"):
        accept_plan(of(node, 0), "run", private_plan(DISTRIBUTED | {"unit": "group"}).canonical())


def test_policy_bounds_one_run(node: Node) -> None:
    for policy, sentence in ((Policy(max_epsilon=7.0), "allows 7 in all"), (Policy(max_delta=1e-6), "allows at most 1e-06")):
        with pytest.raises(PolicyError, match=sentence):
            accept_plan(of(node, 500, policy), "run", private_plan(DISTRIBUTED).canonical())


def test_a_budget_whose_delta_promises_nothing_is_no_budget(node: Node) -> None:
    plan = private_plan(LOCAL | {"delta": 1e-6})
    with pytest.raises(PolicyError, match="max_delta that is not below 1 / N"):
        accept_plan(of(node, 123456), "run", plan.canonical())
    accept_plan(of(node, 123456, Policy(max_delta=1e-6)), "run", plan.canonical())


def test_terms_are_those_of_the_plan_that_was_accepted(node: Node) -> None:
    """Neither another plan under the run's name nor a death in between leaves terms behind."""
    plan = private_plan(DISTRIBUTED)
    with weakened("client.ledger.Ledger.accept_run", by=die), pytest.raises(Crash):
        accept_plan(of(node, 100), "run", plan.canonical())
    assert node.ledger.privacy.accepted("run") is None
    accept_plan(node, "run", make_plan().canonical())
    with pytest.raises(Refusal, match="accepted with another plan"):
        accept_plan(of(node, 100), "run", plan.canonical())
    assert node.ledger.privacy.accepted("run") is None


def test_budget_holds_over_all_runs(node: Node) -> None:
    """Before anything is trained, and for a run that was accepted before another spent what was left."""
    plan = private_plan(DISTRIBUTED)
    accept_plan(of(node, 100), "accepted", plan.canonical())
    node.ledger.privacy.reserve("other", 1, "record", [Release(0.4)])
    sentence = "with earlier runs this one would spend more than epsilon 10 at delta 1e-05"
    with pytest.raises(PolicyError, match=sentence):
        accept_plan(of(node, 100), "new", plan.canonical())
    assert node.ledger.plan("new") is None and node.ledger.privacy.accepted("new") is None
    accepted = node.ledger.privacy.accepted("accepted")
    assert accepted is not None
    with pytest.raises(PolicyError, match=sentence):  # as before every round
        check_budget(node.policy, node.ledger.privacy, "accepted", accepted.whole, "ada")
