"""Every lane of every private run has a declared sensitivity."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from model.layout import Adaptation, AdapterConfig
from protocols.aggregation import rule_of
from protocols.encoding import Block
from protocols.errors import PlanError, PrivacyError
from protocols.plan import Plan
from protocols.privacy.lanes import Sensitivity, check_lanes, sensitivity
from protocols.schedule import planned_sums
from protocols.terms import Terms
from tests.federation.federation import CONFIG
from tests.federation.private_plans import DISTRIBUTED, LOCAL, SMALL, private_plan

RULES = ("alternating", "fedavg", "ffa", "fedsvd", "fedsb", "sketched", "fedsa")
EXPERTS = ("none", "all", "esft-token", "esft-gate")


def plans() -> list[Plan]:
    """Every combination that a plan may have, of those that this version can lay out."""
    found = []
    for mechanism, rule, experts, ranks in product((LOCAL, DISTRIBUTED), RULES, EXPERTS, ("equal", "nested")):
        try:
            trainable: dict[str, Any] = SMALL | {"experts": experts, "ranks": ranks, "expert_rank": 2}
            plan = private_plan(mechanism, trainable=trainable, aggregation={"rule": rule})
            rule_of(plan)
        except (PlanError, KeyError):
            continue
        found.append(plan)
    return found


def test_every_lane_is_declared_and_nothing_of_training_records_is_without_noise() -> None:
    seen = set()
    for plan in plans():
        terms = Terms(plan, Adaptation(CONFIG, AdapterConfig.from_fields(plan.adapter_fields), plan.seed))
        for planned in planned_sums(plan):
            lanes = {block.name: sensitivity(block.name) for block in terms.lanes(terms.start(), planned).blocks}
            of_training = {name for name, declared in lanes.items() if declared is not Sensitivity.TEST_RECORDS}
            assert planned.kind in ("evaluate", "update") and bool(of_training) == (planned.kind == "update")
            assert {name.partition(".")[0] for name in of_training} <= {"delta", "weight", "expert_weights"}
        seen.add((plan.privacy.mechanism if plan.privacy else "", plan.aggregation.rule, plan.trainable.experts))
    assert len(seen) >= 16, "two mechanisms, four rules, with experts and without"


def test_a_lane_without_declaration_is_in_no_layout() -> None:
    with pytest.raises(PrivacyError, match="the lane loss has no declared sensitivity"):
        check_lanes([Block("weight", (1,), 1.0, False), Block("loss", (1,), 1.0, False)])
