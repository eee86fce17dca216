"""What a private plan may not hold, each in one sentence."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.errors import PlanError
from protocols.plan import plan_from_canonical
from tests.federation.private_plans import DISTRIBUTED, LOCAL, SMALL, private_plan

BOTH: list[tuple[dict[str, Any], str]] = [
    ({"trainable": SMALL | {"experts": "esft-token"}}, "ESFT selection counts"),
    ({"trainable": SMALL | {"experts": "esft-gate"}}, "ESFT selection counts"),
    ({"trainable": SMALL | {"router_bias": "summed-counts"}}, "counts the tokens of records"),
    ({"trainable": SMALL | {"targets": ["embeddings"]}}, "embeddings are trained by LoRA"),
    ({"trainable": SMALL | {"ranks": "nested"}}, "who holds which slice"),
    ({"aggregation": {"weights": "tokens"}}, "how many records there are"),
    ({"aggregation": {"rule": "sketched"}}, "does not go with"),
    ({"aggregation": {"rule": "fedsa"}}, "does not go with"),
    ({"training": {"local_steps": 1, "scaffold": True}}, "scaffold does not go with"),
    ({"records": {"prompt": "{a}", "target": "{b}"}}, "tells of one long record"),
    ({"records": {"messages": "chat", "too_long": "truncate"}}, "a long chat cannot be cut"),
    ({"evaluation": {"choices": []}}, "read off the training records"),
    ({"release": {"require": {"no_institution_worse_than_alone": True}}}, "a local-only model is trained without noise"),
]


@pytest.mark.parametrize("mechanism", [LOCAL, DISTRIBUTED])
@pytest.mark.parametrize(("tables", "sentence"), BOTH)
def test_nothing_goes_past_the_noise(mechanism: dict[str, Any], tables: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        private_plan(mechanism, **tables)


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        ({"training": {"local_steps": 2}}, "one step a round"),
        ({"training": {"local_steps": 1, "proximal": 0.1}}, "must be off"),
        ({"training": {"local_steps": 1, "weight_decay": 0.1}}, "must be off"),
        ({"secure_aggregation": {"lanes": 24}}, "lanes = 32"),
    ],
)
def test_noise_under_the_sum_takes_one_step_a_round(tables: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        private_plan(DISTRIBUTED, **tables)


@pytest.mark.parametrize("privacy", [LOCAL | {"noise_multiplier": 1.0}, {"mechanism": "distributed"}])
def test_the_plan_states_the_noise_of_sums_and_no_other(privacy: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="noise_multiplier belongs to"):
        private_plan(privacy)


@pytest.mark.parametrize("privacy", [LOCAL, DISTRIBUTED, LOCAL | {"unit": "group"}])
def test_a_private_plan_survives_the_journey(privacy: dict[str, Any]) -> None:
    plan = private_plan(privacy)
    assert plan_from_canonical(plan.canonical()) == plan
