"""Plans that wait for a person, and what the person says: written beside the ledger, where the node looks when it is asked next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.decisions import Decision, Decisions
from client.ledger import Ledger
from client.plan_summary import PlanSummary, summary_of
from client.settings import InstitutionSettings
from protocols.acceptance import is_text_of
from protocols.errors import PolicyError
from protocols.plan import plan_from_canonical


@dataclass(frozen=True, slots=True)
class WaitingPlan:
    """A plan that the coordinator asks for; decided, it waits for the coordinator to ask again alone."""

    summary: PlanSummary
    asked_at: str
    decision: Decision | None

    @property
    def state(self) -> str:
        if self.decision is None:
            return "waits for a decision"
        return "approved, and signed when the coordinator asks next" if self.decision.accepted else f"refused: {self.decision.reason}"

    def lines(self) -> list[str]:
        return [*self.summary.lines(), f"  asked for {self.asked_at}; {self.state}"]

    def document(self) -> dict[str, Any]:
        decided = None if self.decision is None else self.decision.model_dump(mode="json")
        return {**self.summary.document(), "asked_at": self.asked_at, "decision": decided}


def waiting_plans(ledger: Ledger, settings: InstitutionSettings) -> list[WaitingPlan]:
    """The oldest first.

    Raises:
        LedgerError: a decision on disk is damaged.
    """
    decisions, found = Decisions(ledger.home), []
    for one in ledger.accepted.pending():
        plan, decision = plan_from_canonical(one.plan), decisions.decision(one.run)
        current = decision if decision is not None and decision.plan_sha256 == plan.sha256 else None
        found.append(WaitingPlan(summary_of(one.run, plan, settings), one.asked_at, current))
    return found


def decide(ledger: Ledger, waiting: WaitingPlan, refusal: str, terms: Path | None) -> Decision:
    """Keeps a person's decision and returns it.

    Args:
        refusal: why not; empty approves.
        terms: file with the text of the terms of use, to compare with what the plan names.

    Raises:
        PolicyError: the text is another one; nothing is decided.
    """
    plan = waiting.summary.plan
    if terms is not None and not is_text_of(plan, terms.read_bytes()):
        named = f"the text with SHA-256 {plan.terms_sha256}" if plan.terms_sha256 else "no terms of use"
        raise PolicyError(f"{terms} is not what the plan names, which is {named}; ask the operator for the text, nothing was decided")
    decision = Decision(
        plan_sha256=plan.sha256,
        accepted=not refusal,
        reason=refusal,
        terms_sha256=plan.terms_sha256,
        terms_read=terms is not None,
        at=ledger.now(),
    )
    Decisions(ledger.home).decide(waiting.summary.run, decision)
    return decision
