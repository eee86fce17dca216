"""An institution's own terms stand above the plan's."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.layout import Adaptation, AdapterConfig
from protocols.errors import PolicyError
from protocols.plan import Plan, parse_plan
from protocols.policy import Policy, check_hours, check_layout, check_plan, check_update, load_policy, write_policy
from protocols.state import State
from protocols.terms import Terms
from protocols.traffic import round_bytes
from tests.federation.federation import CONFIG

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


@pytest.mark.parametrize("hours", ["22-06", "24:00-06:00", "06:00-06:00", "always"])
def test_hours_that_are_none_are_named(tmp_path: Path, hours: str) -> None:
    (tmp_path / "policy.toml").write_text(f'hours = "{hours}"\n')
    with pytest.raises(PolicyError, match=r"policy\.toml: hours: .*leave it empty"):
        load_policy(tmp_path / "policy.toml")


def test_outside_of_its_hours_an_institution_says_when_to_ask_again() -> None:
    noon = datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    sentence = r"trains from 22:00 to 06:00 by its own clock \(UTC\+0200\); ask again from 22:00 on"
    with pytest.raises(PolicyError, match=sentence):
        check_hours(Policy(hours="22:00-06:00"), noon)
    check_hours(Policy(hours="09:00-17:00"), noon)
    check_hours(Policy(), noon)


def terms_of(**trainable: Any) -> Terms:
    content = {"name": "triage", "base": "tiny", "records": {"prompt": "{a}", "target": "{b}"}, "trainable": trainable}
    plan: Plan = parse_plan(content, "plan.toml")
    return Terms(plan, Adaptation(CONFIG, AdapterConfig.from_fields(plan.adapter_fields), plan.seed))


ATTENTION = {"targets": ["attention"], "experts": "none"}


def test_only_modules_that_match_a_pattern_are_trained() -> None:
    terms, policy = terms_of(**ATTENTION), Policy(modules=("model.layers.*.self_attn.*",))
    check_layout(policy, terms, terms.start())
    other = terms_of(targets=["attention", "lm_head"], experts="none")
    with pytest.raises(PolicyError, match=r"the plan may train lm_head and this institution's policy allows model\.layers"):
        check_layout(policy, other, other.start())


def test_a_plan_that_may_choose_any_expert_is_refused_before_it_chooses() -> None:
    terms, policy = terms_of(targets=["attention"]), Policy(modules=("model.layers.*.self_attn.*", "model.layers.1.mlp.experts.0.*"))
    with pytest.raises(PolicyError, match=r"may train model\.layers\.1\.mlp\.experts\.1\."):
        check_layout(policy, terms, terms.start())


def test_a_round_that_sends_more_than_the_policy_allows_is_refused_with_both_figures() -> None:
    terms = terms_of(**ATTENTION)
    sizes = dict(round_bytes(terms, terms.start()))
    largest = max(sizes.values())
    check_layout(Policy(max_megabytes_per_round=largest / 1e6), terms, terms.start())
    with pytest.raises(PolicyError, match=rf"round 1 sends {sizes[1] / 1e6:.1f} MB .* allows 0\.0001;"):
        check_layout(Policy(max_megabytes_per_round=1e-4), terms, terms.start())


def test_chosen_experts_count_where_none_did_before() -> None:
    terms = terms_of(targets=["attention"], expert_rank=2)
    start = terms.start()
    chosen = replace(start, experts={1: (0, 2)}, tensors=terms.adaptation.initial({1: (0, 2)}))
    before, after = dict(round_bytes(terms, start)), dict(round_bytes(terms, chosen))
    assert after[1] > before[1]
    with pytest.raises(PolicyError, match="round 1 sends"):
        check_layout(Policy(max_megabytes_per_round=before[1] / 1e6), terms, chosen)
