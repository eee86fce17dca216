"""What a plan's [release] table demands of a finished run, and what of it was not met."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coordinator.registry.records import Event, Round
from coordinator.registry.registry import Registry
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
    """What the event chain says of them."""
    bodies = [json.loads(event.body) for event in events if event.kind == OVERRIDE]
    return tuple(Override(body["reason"], tuple(body["unmet"])) for body in bodies)


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
