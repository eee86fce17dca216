"""A plan is strict: what is not understood is refused in one sentence that names it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from protocols.errors import PlanError
from protocols.plan import Plan, load_plan, parse_plan, plan_from_canonical

MINIMAL: dict[str, Any] = {"name": "triage", "base": "tiny", "records": {"prompt": "note: {note}\ncode:", "target": " {code}"}}


def parsed(**changes: Any) -> Plan:
    return parse_plan({**MINIMAL, **changes}, "plan.toml")


def test_only_name_base_and_records_are_required() -> None:
    plan = parsed()
    assert (plan.rounds, plan.trainable.lora_rank, plan.base.name) == (8, 8, "tiny")


@pytest.mark.parametrize("key", ["name", "base", "records"])
def test_a_missing_required_key_is_named(key: str) -> None:
    with pytest.raises(PlanError, match=f"plan.toml: {key} is missing"):
        parse_plan({k: v for k, v in MINIMAL.items() if k != key}, "plan.toml")


def test_an_unknown_key_is_named_with_its_table_and_a_suggestion() -> None:
    with pytest.raises(PlanError, match=r"training\.batchsize is not a known key; did you mean batch_size\?"):
        parsed(training={"batchsize": 4})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 0}, "rounds"),
        ({"participation": {"deadline": "soon"}}, "participation.deadline"),
        ({"training": {"label_prior": "corrected"}, "evaluation": {"metric": "bits_per_byte"}}, "closed choices"),
        ({"records": {"prompt": "x", "target": "y", "messages": "z"}}, "either prompt and target, or messages"),
        ({"aggregation": {"rule": "krum"}}, "aggregation.rule"),
        ({"secure_aggregation": {"min_institutions": 2}}, "min_institutions"),
        ({"secure_aggregation": {"suite": "SA-0"}}, "suite"),
        ({"seed": 2**63}, "seed"),
        ({"training": {"local_steps": 10**400}}, "training.local_steps"),
        ({"training": {"learning_rate": 1e300}}, "training.learning_rate"),
        ({"training": {"learning_rate": 1e-320}}, "training.learning_rate"),
        ({"trainable": {"rank_pattern": {"lm_head": 0}}}, "trainable.rank_pattern.lm_head"),
        ({"personalisation": {"private_experts": 10**30}}, "personalisation.private_experts"),
        ({"participation": {"deadline": "9" * 400 + "d"}}, "participation.deadline: a duration"),
        ({"participation": {"deadline": "²s"}}, "participation.deadline: a duration"),
        ({"aggregation": {"rule": "ffa", "sketch_size": 9}}, 'sketch_size needs aggregation.rule = "sketched" or "fedsb"'),
        ({"aggregation": {"rule": "sketched", "sketch_size": 7}}, "sketch_size = 7 cannot hold factors of rank 8"),
        (
            {"aggregation": {"rule": "sketched", "sketch_size": 9}, "trainable": {"rank_pattern": {"lm_head": 10}}},
            "sketch_size = 9 cannot hold factors of rank 10",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        parsed(**changes)


@pytest.mark.parametrize(
    ("partition", "message"),
    [
        ({"dirichlet": "label"}, "simulation.partition.alpha is missing"),
        ({"alpha": 0.3}, "simulation.partition.dirichlet is missing"),
        ({"dirichlet": "label", "alpha": "0.3"}, "simulation.partition.alpha: input should be a valid number"),
        ({"dirichlet": "label", "alpha": 0.3, "alpa": 1}, "alpa is not a known key; did you mean alpha"),
        ({"uniform": False}, "simulation.partition.uniform: input should be true"),
        ({"uniform": True, "alpha": 0.3}, "simulation.partition.alpha is not a known key; known here: uniform"),
        ({"field": "site", "alpha": 0.3}, "simulation.partition.alpha is not a known key; known here: field"),
        ({"dirichlt": "label"}, "simulation.partition: give { field"),
        ("uniform", "simulation.partition: give { field"),
    ],
)
def test_an_error_in_a_partition_is_about_the_table_that_was_meant(partition: object, message: str) -> None:
    with pytest.raises(PlanError, match=re.escape(message)):
        parsed(simulation={"source": "x", "partition": partition})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": "8"}, "rounds"),
        ({"rounds": 8.0}, "rounds"),
        ({"training": {"local_steps": True}}, "training.local_steps"),
        ({"training": {"learning_rate": "1e-3"}}, "training.learning_rate"),
        ({"trainable": {"mtp": "yes"}}, "trainable.mtp: input should be 'auto', true or false"),
        ({"trainable": {"targets": "attention"}}, "trainable.targets"),
        ({"evaluation": {"choices": [1]}}, "evaluation.choices.0"),
    ],
)
def test_a_value_of_another_type_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=re.escape(f"plan.toml: {message}")):
        parsed(**changes)


def test_an_integer_may_stand_for_a_real_number_and_an_array_for_a_list_of_names() -> None:
    plan = parsed(
        training={"learning_rate": 1},
        trainable={"targets": ["attention"], "mtp": True},
        simulation={"source": "x", "partition": {"dirichlet": "label", "alpha": 1}},
    )
    assert (plan.training.learning_rate, plan.trainable.targets, plan.trainable.mtp) == (1.0, ("attention",), True)
    assert plan_from_canonical(plan.canonical()) == plan


def test_the_error_does_not_repeat_the_value() -> None:
    with pytest.raises(PlanError) as refused:
        parsed(rounds="secret-value")
    assert "secret-value" not in str(refused.value)


def test_canonical_bytes_survive_the_journey() -> None:
    plan = parsed(evaluation={"choices": ["a", "ü"]})
    assert plan_from_canonical(plan.canonical()) == plan


def test_bytes_that_are_not_canonical_are_refused() -> None:
    with pytest.raises(PlanError, match="canonical"):
        plan_from_canonical(parsed().canonical().replace(b'"rounds":8', b'"rounds": 8'))


def test_the_hash_changes_with_any_term() -> None:
    assert parsed().sha256 != parsed(rounds=9).sha256


def test_terms_are_hashed_into_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text('name = "a"\nbase = "tiny"\nterms = "terms.md"\n[records]\nprompt = "{x}"\ntarget = "{y}"\n')
    with pytest.raises(PlanError, match=r"terms\.md, which cannot be read"):
        load_plan(path)
    (tmp_path / "terms.md").write_text("be kind")
    first = load_plan(path)
    (tmp_path / "terms.md").write_text("be kinder")
    assert first.terms_sha256 and load_plan(path).sha256 != first.sha256


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plan.toml").write_bytes(content)
    with pytest.raises(PlanError, match=r"plan\.toml: "):
        load_plan(tmp_path / "plan.toml")
