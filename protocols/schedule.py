"""What a plan's rounds consist of: which sums, and at which learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from protocols.plan import Plan, Training

# AdamW moves an element by at most about one learning rate a step; four leave room for weight decay and momentum.
STEPS_BOUND = 4.0

SumKind = Literal["evaluate", "experts", "gradient", "gradient-2", "parts", "update", "update-2"]


BOUND_SUMS = ("update", "update-2", "gradient-2")  # of whose set the sum before decides


@dataclass(frozen=True, slots=True)
class PlannedSum:
    """One secure sum of a round. Round 0 measures the base and chooses what is adapted, or on which bases."""

    round: int
    kind: SumKind
    last_of_round: bool


def planned_sums(plan: Plan) -> tuple[PlannedSum, ...]:
    """Every sum of the plan, in order: the same list at every party."""
    return tuple(_sums(plan))


def has_pre_round(plan: Plan) -> bool:
    """Whether each round first sums which experts were trained, and which ranks are held, at all (PROTOCOL, section 3, parts).

    A private run has none: noise covers the lanes of every part.
    """
    return plan.privacy is None and (plan.trainable.experts != "none" or plan.trainable.ranks == "nested")


def finds_bases(plan: Plan) -> bool:
    """Whether the bases of Fed-SB come from the institutions' first gradient; in a private run they come from the seed."""
    return plan.aggregation.rule == "fedsb" and plan.privacy is None


def is_continued(plan: Plan, kind: str) -> bool:
    """Whether a second sum follows that is made of the same work by the same institutions."""
    return kind == "gradient" or (kind == "update" and plan.aggregation.rule == "sketched")


def keeps_training(plan: Plan, kind: str) -> bool:
    """Whether a later sum of the round is made of what was trained for this one."""
    return kind == "parts" or (kind == "update" and is_continued(plan, kind))


def compares_alone(plan: Plan, planned: PlannedSum) -> bool:
    """Whether a sum also counts the institutions whose local-only model is the better one: the last one, where a release asks for it."""
    asked = plan.release.require.no_institution_worse_than_alone
    return asked and planned.kind == "evaluate" and planned.round == plan.rounds


def upload_deadline(plan: Plan, planned: PlannedSum) -> float:
    """Seconds that uploads of a sum are waited for: the plan's deadline, and again for every round that is trained alone within it."""
    return plan.participation.deadline_seconds * (1 + (plan.rounds if compares_alone(plan, planned) else 0))


def _sums(plan: Plan) -> Iterator[PlannedSum]:
    for number in range(plan.rounds + 1):
        kinds = _round(plan, number) if number else _preparation(plan)
        yield from (PlannedSum(number, kind, kind == kinds[-1]) for kind in kinds)


def _preparation(plan: Plan) -> list[SumKind]:
    kinds: list[SumKind] = ["evaluate"]
    if plan.trainable.experts.startswith("esft"):
        kinds.append("experts")
    return kinds + (["gradient", "gradient-2"] if finds_bases(plan) else [])


def _round(plan: Plan, number: int) -> list[SumKind]:
    kinds: list[SumKind] = ["parts"] if has_pre_round(plan) else []
    kinds += ["update", "update-2"] if plan.aggregation.rule == "sketched" else ["update"]
    evaluated = number % plan.evaluation.every == 0 or number == plan.rounds
    return kinds + (["evaluate"] if evaluated else [])


def learning_rate(plan: Plan, round_number: int) -> float:
    """Learning rate of rounds 1 to `plan.rounds`; constant, or falling over rounds as a line or half a cosine, never to zero."""
    return _ten_digits(plan.training.learning_rate * _decay(plan, round_number))


def server_learning_rate(plan: Plan, round_number: int) -> float:
    """Step on the mean update. Updates fall with the learning rate of institutions; what adam and yogi make of them must be told to."""
    aggregation = plan.aggregation
    falls = aggregation.server_optimizer in ("adam", "yogi")
    return _ten_digits(aggregation.server_learning_rate * _decay(plan, round_number)) if falls else aggregation.server_learning_rate


def _decay(plan: Plan, round_number: int) -> float:
    done = (round_number - 1) / plan.rounds
    return {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[plan.training.schedule]


def _ten_digits(value: float) -> float:
    """States and lane scales follow from it, and cosines differ in the last bits between platforms."""
    return float(f"{value:.9e}")


def largest_step(training: Training, learning_rate: float) -> float:
    """How far one institution's round may move an element: the bound of a delta's lanes."""
    return STEPS_BOUND * learning_rate * training.local_steps
