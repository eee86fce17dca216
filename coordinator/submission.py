"""A plan becomes a run: checked, completed with its base's hash, and written to the registry, where `serve` finds it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from coordinator.errors import ChainBroken, SettingsError
from coordinator.registry.records import NewRun, Run
from coordinator.registry.registry import Registry
from coordinator.registry.states import RunState
from coordinator.submitted_plan import submitted_plan
from model.config import ModelConfig
from model.layout import Adaptation, AdapterConfig
from protocols.errors import PlanError
from protocols.files import write_file
from protocols.participation import too_small
from protocols.plan import Plan


def submit(registry: Registry, plan: Plan, config: ModelConfig, base: Path, randomness: Callable[[int], bytes]) -> Run:
    """Writes the run; `plan` has its base's hash, and `base` is the folder that keeps the base's sizes.

    Raises:
        PlanError: it lacks what a deployment needs, or asks for other institutions than there are.
        SettingsError: a run of the same plan and seed is under way.
    """
    _check(registry, plan)
    Adaptation(config, AdapterConfig.from_fields(plan.adapter_fields), plan.seed).layout({})
    write_file(base / "config.json", json.dumps(config.to_dict(), indent=1, sort_keys=True).encode())
    return registry.create_run(new_run(plan), randomness(4))


def new_run(plan: Plan) -> NewRun:
    """A plan as the registry's row has it."""
    evaluated = plan.evaluation
    return NewRun(
        plan.name, plan.sha256, plan.canonical().decode(), plan.base.sha256, plan.seed, plan.rounds, plan.terms_sha256,
        evaluated.metric, evaluated.higher_is_better,
    )  # fmt: skip


def begun_alike(registry: Registry, plan: Plan) -> tuple[str, ...]:
    """Runs that began from the same state as this plan: institutions open each of its sums over one set, and refuse another one."""
    begun = (run for run in registry.runs() if run.state not in (RunState.SUBMITTED, RunState.ACCEPTING))
    alike = (run for run in begun if (run.base_sha256, run.seed) == (plan.base.sha256, plan.seed))
    return tuple(run.run for run in alike if _adapter_fields(run) == plan.adapter_fields)


def _adapter_fields(run: Run) -> Mapping[str, Any] | None:
    """None where the plan is not known or of another version."""
    try:
        return submitted_plan(run).adapter_fields
    except (ChainBroken, PlanError):
        return None


def _check(registry: Registry, plan: Plan) -> None:
    if plan.evaluation.metric == "accuracy" and not plan.evaluation.choices:
        raise PlanError(
            f"plan {plan.name} measures accuracy and evaluation.choices is empty; list the targets as records.target renders them"
        )
    institutions = sum(one.revoked_at is None for one in registry.participants())
    needed = max(plan.secure_aggregation.min_institutions, plan.participation.quorum)
    if institutions < needed:
        raise PlanError(f"{institutions} institutions take part and plan {plan.name} needs {needed}; approve more, or lower the quorum")
    if (fault := too_small(plan, institutions)) is not None:
        raise PlanError(f"plan {plan.name} cannot be run: {fault}")
    found = registry.find_run(plan.sha256, plan.seed)
    if found is not None and not found.state.ended:
        raise SettingsError(f"run {found.run} of this plan and seed is {found.state.value}; stop it, or give the plan another seed")
