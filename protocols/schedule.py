"""What a plan's rounds consist of: which sums, and at which learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from protocols.plan import Plan

SumKind = Literal["evaluate", "experts", "parts", "update"]


@dataclass(frozen=True, slots=True)
class PlannedSum:
    """One secure sum of a round. Round 0 measures the base and, for ESFT, chooses the experts."""

    round: int
    kind: SumKind
    last_of_round: bool


def planned_sums(plan: Plan) -> tuple[PlannedSum, ...]:
    """Every sum of the plan, in order: the same list at every party."""
    return tuple(_sums(plan))


def has_pre_round(plan: Plan) -> bool:
    """Whether each round first sums which experts were trained at all (PROTOCOL, section 3, parts)."""
    return plan.trainable.experts != "none"


def _sums(plan: Plan) -> Iterator[PlannedSum]:
    chooses = plan.trainable.experts.startswith("esft")
    yield PlannedSum(0, "evaluate", not chooses)
    if chooses:
        yield PlannedSum(0, "experts", True)
    for number in range(1, plan.rounds + 1):
        evaluated = number % plan.evaluation.every == 0 or number == plan.rounds
        if has_pre_round(plan):
            yield PlannedSum(number, "parts", False)
        yield PlannedSum(number, "update", not evaluated)
        if evaluated:
            yield PlannedSum(number, "evaluate", True)


def learning_rate(plan: Plan, round_number: int) -> float:
    """Learning rate of rounds 1 to `plan.rounds`; constant, or falling over rounds as a line or half a cosine, never to zero.

    Ten significant digits are kept, because lane scales follow from it and cosines differ in the last bits between platforms.
    """
    done = (round_number - 1) / plan.rounds
    factor = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[plan.training.schedule]
    return float(f"{plan.training.learning_rate * factor:.9e}")
