"""What a plan's [release] table demands of a finished run, and what of it was not met."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coordinator.errors import ChainBroken
from coordinator.registry.reading import CHANGED
from coordinator.registry.records import Event, Round, Run
from coordinator.registry.registry import Registry
from coordinator.submitted_plan import submitted_plan
from protocols.errors import PlanError
from protocols.plan import Plan
from protocols.sums.evaluate import WORSE_THAN_ALONE

OVERRIDE = "release-override"  # kind of the event


@dataclass(frozen=True, slots=True)
class Override:
    """The operator's decision to release all the same."""

    reason: str
    unmet: tuple[str, ...]


def unmet(plan: Plan, rounds: Sequence[Round]) -> tuple[str, ...]:
    """A sentence for each requirement that the rounds of a run do not meet; every figure is one of a secure sum."""
    return tuple(fault for fault in (_no_better(plan, rounds), _worse_than_alone(plan, rounds)) if fault)


def final_metric(rounds: Sequence[Round]) -> float | None:
    """The last evaluation's figure."""
    return next((finished.metric for finished in reversed(rounds) if finished.metric is not None), None)


def record_override(registry: Registry, run: str, override: Override) -> None:
    """Appends the event, unless a release that died after it did so before."""
    if override not in overrides(registry.events(run)):
        registry.append_event(OVERRIDE, run, {"reason": override.reason, "unmet": list(override.unmet)})


def overrides(events: Iterable[Event]) -> tuple[Override, ...]:
    """What the event chain says of them; raises ChainBroken if an event cannot be read."""
    return tuple(_override(event) for event in events if event.kind == OVERRIDE)


def audit_gate(run: Run, rounds: Sequence[Round], events: Sequence[Event]) -> str:
    """That a released run met what its plan requires, or that the operator's decision is in the chain; nothing of plans of other versions.

    Raises:
        ChainBroken: neither is so.
    """
    try:
        plan = submitted_plan(run)
    except (ChainBroken, PlanError):  # a changed one is named by the audit of its run
        return ""
    faults = unmet(plan, rounds)
    if not faults:
        return f"Run {run.run} met what its plan requires of a release."
    for decided in overrides(events):
        if set(faults) <= set(decided.unmet):
            return f"Run {run.run} was released by the operator's decision ({decided.reason}), although {'; '.join(faults)}."
    raise ChainBroken(f"run {run.run} was released although {'; '.join(faults)}, and no event says that the operator decided so")


def _override(event: Event) -> Override:
    try:
        body = json.loads(event.body)
        return Override(str(body["reason"]), tuple(map(str, body["unmet"])))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ChainBroken(f"event {event.sequence} ({event.kind}) is not readable; {CHANGED}") from None


def _no_better(plan: Plan, rounds: Sequence[Round]) -> str | None:
    required, base, final = plan.release.require.metric_above_base, rounds[0].metric, final_metric(rounds)
    if required is None or base is None or final is None:
        return None
    gain = final - base if plan.evaluation.higher_is_better else base - final
    if gain >= required:  # never of a figure that is not a number
        return None
    return (
        f"{plan.evaluation.metric} went from {base:.4f} (base) to {final:.4f}, and release.require.metric_above_base is {required}; "
        "train longer, or change the requirement in a new plan"
    )


def _worse_than_alone(plan: Plan, rounds: Sequence[Round]) -> str | None:
    if not plan.release.require.no_institution_worse_than_alone:
        return None
    last = rounds[-1]
    worse = last.figures.get(WORSE_THAN_ALONE)
    if worse == 0:
        return None
    counted = "" if worse is None else f"is worse for {worse:.0f} of {last.institutions} institutions than their local-only ones"
    found = counted or "was not compared with local-only ones"
    return f"the model {found}, and release.require.no_institution_worse_than_alone is true; train longer, or change it in a new plan"
