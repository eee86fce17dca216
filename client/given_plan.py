"""A plan as an operator hands it to an institution, before any run: completed with the hash of the base that is installed here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from protocols.errors import PlanError
from protocols.plan import Plan, load_plan, plan_from_canonical


@dataclass(frozen=True, slots=True)
class GivenPlan:
    """A complete plan, and what was filled in."""

    plan: Plan
    notes: tuple[str, ...] = ()


def read_given_plan(path: Path) -> Plan:
    """A plan file: TOML, or the canonical JSON that a run has.

    Raises:
        PlanError: it is neither.
    """
    if path.suffix != ".json":
        return load_plan(path)
    try:
        return plan_from_canonical(path.read_bytes())
    except OSError:
        raise PlanError(f"{path}: there is no readable plan at this path") from None


def complete_plan(plan: Plan, base_sha256: str) -> GivenPlan:
    """The plan with its base's hash, that of the checkpoint with `base_sha256` here.

    Raises:
        PlanError: it lacks what only the operator can say, or is meant for another checkpoint.
    """
    if lacking := missing_choices(plan):
        raise PlanError(lacking)
    if plan.base.sha256 and plan.base.sha256 != base_sha256:
        raise PlanError(
            f"plan {plan.name} is for the base {plan.base.name} with SHA-256 {plan.base.sha256[:12]}… and the checkpoint here has "
            f"{base_sha256[:12]}…; install the plan's checkpoint, or ask the operator which one is meant"
        )
    if plan.base.sha256:
        return GivenPlan(plan)
    completed = plan.model_copy(update={"base": plan.base.model_copy(update={"sha256": base_sha256})})
    note = f"the plan names no base.sha256; that of the checkpoint here was taken, {base_sha256[:12]}…"
    return GivenPlan(completed, (note,))


def missing_choices(plan: Plan) -> str:
    """One sentence where a plan measures accuracy without its list of targets; empty where nothing is missing."""
    if plan.evaluation.metric != "accuracy" or plan.evaluation.choices:
        return ""
    return f"plan {plan.name} measures accuracy and lacks evaluation.choices; ask the operator for the run's list of targets"
