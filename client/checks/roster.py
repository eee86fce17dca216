"""With whom this institution takes part: enough accepted members for a plan, and what the operator offers beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from client.checks.connection import SECONDS
from client.checks.finding import Finding, failed, ok
from client.connection import connect
from client.institution import Membership
from client.roster_book import differences, offer_of
from protocols.errors import ConsortiumError
from protocols.plan import Plan
from protocols.roster_offer import OfferedInstitution

FEWEST = 3  # no secure sum has fewer members
_NAME = "roster"
_REMEDY = "`consortium client roster` shows the coordinator's offer, and how to take it over"


def check_roster(membership: Membership, plan: Plan | None, offer: Sequence[OfferedInstitution] | None) -> Finding:
    """Whether `roster.toml` lists enough institutions, and agrees with the coordinator's `offer`; None where that is not known."""
    accepted = len(membership.roster.entries)
    needed = max(plan.secure_aggregation.min_institutions, plan.participation.quorum) if plan else FEWEST
    open_ones = differences(membership, offer) if offer is not None else ()
    if own := next((one for one in open_ones if one.kind == "own"), None):
        return failed(_NAME, own.reason, "ask the operator what happened")
    rest = f"; otherwise in the coordinator's offer: {', '.join(f'{one.name} ({one.kind})' for one in open_ones)}" if open_ones else ""
    unknown = "; what the coordinator offers is not known" if offer is None else ""
    sentence = f"institutions that are accepted: {accepted}, and {needed} are needed{rest}{unknown}"
    if accepted < needed:
        return failed(_NAME, sentence, _REMEDY)
    return Finding(_NAME, "warning", sentence, _REMEDY) if open_ones else ok(_NAME, sentence)


def offered(folder: Path, clock: Callable[[], datetime]) -> tuple[OfferedInstitution, ...] | None:
    """Whom the coordinator offers; None where it cannot be asked, which another finding tells."""
    try:
        with connect(folder, clock) as service:
            return offer_of(service, SECONDS)
    except ConsortiumError:
        return None
