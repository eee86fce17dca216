"""With whom this institution takes part: enough accepted members for a plan, and whom the operator offers beside them."""

from __future__ import annotations

from collections.abc import Collection

from client.checks.finding import Finding, failed, ok
from client.institution import Membership
from protocols.plan import Plan

FEWEST = 3  # no secure sum has fewer members


def check_roster(membership: Membership, plan: Plan | None, offered: Collection[str] = ()) -> Finding:
    """Whether `roster.toml` lists enough institutions; `offered` are the names that the operator offers."""
    accepted = [entry.name for entry in membership.roster.entries]
    needed = max(plan.secure_aggregation.min_institutions, plan.participation.quorum) if plan else FEWEST
    missing = sorted(set(offered) - set(accepted))
    waiting = f"; offered and not accepted: {', '.join(missing)}" if missing else ""
    sentence = f"{len(accepted)} institutions are accepted and {needed} needed{waiting}"
    remedy = "compare keys with the others by telephone and accept them into roster.toml"
    if len(accepted) < needed:
        return failed("roster", sentence, remedy)
    return Finding("roster", "warning", sentence, remedy) if missing else ok("roster", sentence)
