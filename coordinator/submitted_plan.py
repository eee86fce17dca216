"""The plan in a run's row, which no event repeats: its hash, which the chain holds, says whether it is the one that was submitted."""

from __future__ import annotations

import hashlib
import json
import tomllib
from typing import Any

from coordinator.errors import ChainBroken
from coordinator.registry.reading import CHANGED
from coordinator.registry.records import Run
from protocols.errors import PlanError
from protocols.plan import Plan, parse_plan
from protocols.privacy.statement import Statement, statement


def check_plan(run: Run) -> dict[str, Any]:
    """The plan's content.

    Canonical JSON is hashed as it stands, so that a plan of an earlier version counts too. A registry may also hold the TOML that was
    submitted, whose canonical form has the hash.

    Raises:
        ChainBroken: it is neither.
    """
    try:
        data = run.plan.encode()
        canonical = data if hashlib.sha256(data).hexdigest() == run.plan_sha256 else _canonical(run)
        content = json.loads(canonical)
    except (ValueError, RecursionError, PlanError):
        content = None
    if not isinstance(content, dict):
        raise ChainBroken(
            f"run {run.run}: `plan` in its row is not the plan with hash {run.plan_sha256[:12]}… that was submitted; {CHANGED}"
        )
    return content


def kept_for(run: Run) -> int:
    """For how many rounds uploads are kept; 0 where the plan is not known."""
    try:
        sums = check_plan(run).get("secure_aggregation")
    except ChainBroken:
        return 0
    rounds = sums.get("audit_rounds") if isinstance(sums, dict) else None
    return rounds if isinstance(rounds, int) else 0


def submitted_plan(run: Run) -> Plan:
    """Raises ChainBroken if it is not the plan that was submitted, PlanError if it is one of another version."""
    return parse_plan(check_plan(run), f"the plan of run {run.run}")


def promise_of(run: Run) -> Statement | None:
    """What the run's plan promises of privacy; None without [privacy], and where the plan is not known or of another version."""
    try:
        return statement(submitted_plan(run))
    except (ChainBroken, PlanError):
        return None


def _canonical(run: Run) -> bytes:
    content = tomllib.loads(run.plan)
    if "terms" in content:
        content.setdefault("terms_sha256", run.terms_sha256)
    plan = parse_plan(content, f"the plan of run {run.run}")
    if plan.sha256 != run.plan_sha256:
        raise ValueError("another plan")
    return plan.canonical()
