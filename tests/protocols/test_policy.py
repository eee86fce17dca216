"""An institution's own terms stand above the plan's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocols.errors import PolicyError
from protocols.plan import parse_plan
from protocols.policy import Policy, check_plan, check_update, load_policy, write_policy
from protocols.state import State

PLAN = parse_plan({"name": "triage", "base": "tiny", "records": {"prompt": "{a}", "target": "{b}"}}, "plan.toml")


def test_the_default_policy_takes_the_default_plan() -> None:
    check_plan(Policy(), PLAN)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"min_institutions": 5}, "min_institutions is 3"),
        ({"colluding": 2}, "colluding is 1"),
        ({"plans": ("other",)}, "the plan triage"),
        ({"targets": ("attention",)}, "dense_mlp, lm_head, shared_experts"),
        ({"max_rounds": 2}, "rounds is 8"),
        ({"suites": ("SA-1-X25519",)}, "secure_aggregation.suite is SA-1 and this institution's policy allows SA-1-X25519"),
    ],
)
def test_a_plan_below_the_terms_is_refused(terms: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        check_plan(Policy(**terms), PLAN)


def test_a_plan_of_the_weaker_suite_needs_a_policy_that_names_it() -> None:
    content = {"name": "triage", "base": "tiny", "records": {"prompt": "{a}", "target": "{b}"}}
    plan = parse_plan({**content, "secure_aggregation": {"suite": "SA-1-X25519"}}, "plan.toml")
    with pytest.raises(PolicyError, match="suite is SA-1-X25519 and this institution's policy allows SA-1;"):
        check_plan(Policy(), plan)
    check_plan(Policy(suites=("SA-1", "SA-1-X25519")), plan)


def test_no_file_is_the_default_policy(tmp_path: Path) -> None:
    assert load_policy(tmp_path / "policy.toml") == Policy()


def test_an_unknown_term_is_named(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text("coluding = 2\n")
    with pytest.raises(PolicyError, match="did you mean colluding"):
        load_policy(tmp_path / "policy.toml")


def test_a_written_policy_is_commented_and_read_back(tmp_path: Path) -> None:
    policy = Policy(min_institutions=4, colluding=0, targets=("attention", "lm_head"), suites=("SA-1-X25519", "SA-1"))
    write_policy(tmp_path / "policy.toml", policy)
    assert load_policy(tmp_path / "policy.toml") == policy
    assert "# most rounds of one plan" in (tmp_path / "policy.toml").read_text()


@pytest.mark.parametrize("step", [2.0, np.nan, np.inf], ids=str)
def test_a_step_over_the_policys_norm_is_refused(step: float) -> None:
    before = State("ab" * 32, 1, {"a": np.zeros((2, 2), np.float32), "b": np.zeros(2, np.float32)})
    after = State("ab" * 32, 2, {"a": np.zeros((2, 2), np.float32), "b": np.array([0.0, step], np.float32)})
    with pytest.raises(PolicyError, match="round 2 moves b by"):
        check_update(Policy(max_update_norm=1.5), before, after)
    check_update(Policy(max_update_norm=1.5), before, before)
