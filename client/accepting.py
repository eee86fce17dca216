"""Whether an institution takes part in a run: its policy, its people, and what it signs when both agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.decisions import Decisions
from client.private_runs import accept_private
from client.records import plan_fields
from protocols.acceptance import Acceptance
from protocols.errors import PolicyError, Refusal
from protocols.plan import Plan, plan_from_canonical
from protocols.policy import Policy, check_layout, check_plan
from protocols.terms import Terms

if TYPE_CHECKING:
    from client.node import Node


def accept_plan(node: Node, run: str, canonical: bytes) -> Plan:
    """Checks a plan against the policy, waits for a person where the policy says so, and binds the run to it in writing.

    Raises:
        PolicyError, PlanError, Refusal: the node takes no part, or not yet.
    """
    check_taking_part(node, run)
    plan = plan_from_canonical(canonical)
    check_plan(node.policy, plan)
    check_fields(node.policy, plan)
    if not plan.base.sha256:
        raise PolicyError("the plan names no base hash; the operator fills in base.sha256 and submits it again")
    if node.policy.approval == "plan":
        _check_approved(node, run, plan)
    _check_layout(node, plan)
    accepted = accept_private(node, run, plan)
    with node.ledger.transaction():  # a run's terms are those of its plan, also where this process dies
        node.ledger.accept_run(run, canonical)
        if accepted is not None:
            node.ledger.privacy.accept(run, accepted)
        if node.ledger.accepted.acceptance(run) is None:
            node.ledger.accepted.keep_acceptance(run, _acceptance(node, run, plan).to_bytes())
    return plan


def check_taking_part(node: Node, run: str) -> None:
    """Raises Refusal if this institution withdrew from the run, or has proof against its coordinator."""
    if Decisions(node.ledger.home).is_withdrawn(run):
        raise Refusal(f"{node.name} has withdrawn from run {run} and takes no further part in it; a new run can be submitted")
    if node.ledger.is_stopped(run):
        raise Refusal(f"{node.name} takes no part in run {run} any more: it has proof that a published total is wrong")


def check_fields(policy: Policy, plan: Plan) -> None:
    """Raises PolicyError if a template uses a field of records that the policy does not name."""
    unwanted = [field for field in plan_fields(plan.records) if field not in policy.fields] if policy.fields else []
    if unwanted:
        raise PolicyError(
            f"[records] uses {', '.join(unwanted)} and this institution's policy allows {', '.join(policy.fields)}; change the plan, or "
            "fields in the policy if the institution agrees"
        )


def _check_approved(node: Node, run: str, plan: Plan) -> None:
    decision = Decisions(node.ledger.home).decision(run)
    if decision is None or decision.plan_sha256 != plan.sha256:
        node.ledger.accepted.keep_pending(run, plan.canonical())
        raise PolicyError(
            f"{node.name} waits for its own people to approve the plan {plan.name}: somebody there runs `consortium client approve {run}`; "
            "it takes part when the coordinator asks next"
        )
    if not decision.accepted:
        raise PolicyError(f"{node.name} refused the plan {plan.name}: {decision.reason}")


def _check_layout(node: Node, plan: Plan) -> None:
    if node.policy.limits_layout:
        terms = Terms(plan, node.open_work(plan).adaptation)
        check_layout(node.policy, terms, terms.start())


def _acceptance(node: Node, run: str, plan: Plan) -> Acceptance:
    unsigned = Acceptance(run, plan.sha256, plan.terms_sha256, node.name, node.ledger.now())
    return unsigned.signed_by(node.identity.sign)
