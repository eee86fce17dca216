"""What is compared: each variant is a few values of the plan that differ from the set's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from benchmarks.learning.sets import FULL
from protocols.plan import Plan, parse_plan

Changes: TypeAlias = Mapping[str, Any]
BASELINES = "baselines"  # institutions alone and pooled records: trained by the product's own code, no variant


def _nothing(_: Plan) -> Changes:
    return {}


@dataclass(frozen=True, slots=True)
class Variant:
    """Values of the plan's tables that differ; with `bytes_of` the rank is raised until as much is sent as by that variant."""

    name: str
    changes: Changes = field(default_factory=dict)
    relative: Callable[[Plan], Changes] = _nothing  # changes that follow from the set's plan
    bytes_of: str | None = None
    seeds: int = 3
    sets: tuple[str, ...] = FULL


def _one_step_a_round(plan: Plan) -> Changes:
    """The distributed mechanism sums one gradient a round: twice the rounds, so that Adam has some steps, of as many records in all."""
    step = {"server_optimizer": "adam", "server_learning_rate": plan.training.learning_rate, "server_momentum": 0.9, "server_epsilon": 1e-9}
    batch = plan.training.batch_size * plan.training.local_steps // 2
    return {"rounds": 2 * plan.rounds, "training": {"local_steps": 1, "batch_size": batch, "learning_rate": 1.0}, "aggregation": step}


def _large_batches(plan: Plan) -> Changes:
    """Fewer, larger steps over the same records: noise is added once a step."""
    return {"training": {"local_steps": plan.training.local_steps // 4, "batch_size": plan.training.batch_size * 4}}


def _experts(experts: str, mode: str) -> Changes:
    return {"trainable": {"experts": experts, "expert_mode": mode, "expert_rank": 16}}


# Noise grows with the number of elements: one factor of a low rank.
_FEW: Changes = {"aggregation": {"rule": "ffa"}, "trainable": {"lora_rank": 4, "lora_alpha": 8.0}}


def _private(epsilon: float, mechanism: str = "local", noise_multiplier: float | None = None) -> Changes:
    noise = {} if noise_multiplier is None else {"noise_multiplier": noise_multiplier}
    return {**_FEW, "privacy": {"epsilon": epsilon, "mechanism": mechanism, **noise}}


_SUM_ALONE: Changes = {"aggregation": {"server_optimizer": "none"}}
_WIDE: Changes = {"secure_aggregation": {"lanes": 32}}  # an element is as long as in fp32
_TUNED: Changes = {"personalisation": {"tune_steps": 320, "tune_learning_rate": 2e-3}}
_BANKING77, _MEDQUAD = ((name,) for name in FULL)
VARIANTS = (
    Variant("default"),
    Variant("fedavg", {"aggregation": {"rule": "fedavg"}, **_WIDE}),
    Variant("tune-up", _TUNED, seeds=1),
    Variant("private, epsilon 8", _private(8.0), _large_batches, seeds=1),
    Variant("experts: esft, lora", _experts("esft-token", "lora")),
    Variant("lora at the bytes of esft, lora", bytes_of="experts: esft, lora"),
    Variant("ffa", {"aggregation": {"rule": "ffa"}}),
    Variant("fedsvd", {"aggregation": {"rule": "fedsvd"}}),
    Variant("fedsb", {"aggregation": {"rule": "fedsb"}, "trainable": {"lora_rank": 64, "lora_alpha": 64.0}}),
    Variant("sketched", {"aggregation": {"rule": "sketched", "server_optimizer": "none"}}),
    Variant("fedsa", {"aggregation": {"rule": "fedsa"}}),
    Variant("fedsa, tune-up", {"aggregation": {"rule": "fedsa"}, **_TUNED}, seeds=1),
    Variant("private, epsilon 32", _private(32.0), _large_batches, seeds=1, sets=_MEDQUAD),
    Variant("private, epsilon 100", _private(100.0), _large_batches, seeds=1, sets=_MEDQUAD),
    Variant("private, distributed, epsilon 8", {**_private(8.0, "distributed", 1.6), **_WIDE}, _one_step_a_round, seeds=1, sets=_MEDQUAD),
    Variant("as the private ones, without noise", _FEW, _large_batches, seeds=1, sets=_MEDQUAD),
    Variant("experts: esft, full", _experts("esft-token", "full"), seeds=1, sets=_MEDQUAD),
    Variant("lora at the bytes of esft, full", bytes_of="experts: esft, full", seeds=1, sets=_MEDQUAD),
    Variant("own experts", {**_experts("esft-token", "lora"), "personalisation": {"private_experts": 1}}, seeds=1, sets=_MEDQUAD),
    Variant("scaffold", {"training": {"scaffold": True}}, seeds=1, sets=_BANKING77),
    Variant("no correction of label skew", {"training": {"label_prior": "none"}}, seeds=1, sets=_BANKING77),
    Variant("no server momentum", _SUM_ALONE, seeds=1, sets=_BANKING77),
)  # fmt: skip


def variant(name: str) -> Variant:
    return next(one for one in VARIANTS if one.name == name)


def changed(plan: Plan, *changes: Changes) -> Plan:
    """The plan with values of its tables replaced, checked again.

    Raises:
        PlanError: the values contradict each other.
    """
    content = plan.model_dump(by_alias=True)
    for one in changes:
        content = _merged(content, one)
    return parse_plan(content, f"the benchmark's plan {plan.name}")


def plan_of(plan: Plan, chosen: Variant, seed: int) -> Plan:
    """A set's plan as a variant and seed change it; the rank of a variant with `bytes_of` is set later."""
    return changed(plan, chosen.changes, chosen.relative(plan), {"seed": seed})


def _merged(content: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    nested = {name: _merged(content.get(name) or {}, value) for name, value in changes.items() if isinstance(value, Mapping)}
    return {**content, **changes, **nested}
