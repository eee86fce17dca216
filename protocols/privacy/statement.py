"""What a plan's [privacy] promises, always with epsilon, delta, unit, adversary and mechanism together, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from protocols.privacy.distributed import shares_of

if TYPE_CHECKING:
    from protocols.plan import Plan

_UNITS = {"record": "one training record of an institution", "group": "all training records of one group at an institution"}
_STEPS = {
    "local": "DP-SGD at every local step, noise added by the institution to its own updates",
    "distributed": "one clipped step a round, noise shared by the institutions under the secure sum",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """A promise of differential privacy: adding or removing one unit changes what the adversary sees by (epsilon, delta) at most."""

    epsilon: float  # of the whole run
    delta: float
    unit: Literal["record", "group"]
    adversary: str
    mechanism: Literal["local", "distributed"]

    def __str__(self) -> str:
        """One sentence."""
        return (
            f"differentially private with epsilon {self.epsilon:g} and delta {self.delta:g} over the whole run; "
            f"unit: {_UNITS[self.unit]}; adversary: {self.adversary}; mechanism: {self.mechanism}, {_STEPS[self.mechanism]}"
        )

    @property
    def short(self) -> str:
        """For a table's cell; the adversary is left to the sentence, so the word private is too."""
        return f"epsilon {self.epsilon:g}, delta {self.delta:g}, {self.unit}, {self.mechanism}"


def statement(plan: Plan) -> Statement | None:
    """The plan's promise; None without a [privacy] table."""
    terms = plan.privacy
    if terms is None:
        return None
    return Statement(terms.epsilon, terms.delta, terms.unit, _adversary(plan), terms.mechanism)


def _adversary(plan: Plan) -> str:
    if plan.privacy is not None and plan.privacy.mechanism == "local":
        return (
            "everybody outside the institution: the coordinator, the other institutions together, and whoever has the model, "
            "even if they saw single updates"
        )
    colluding = plan.secure_aggregation.colluding
    return (
        f"the coordinator with at most {colluding} of the other institutions, and whoever has the model; they see sums, and at least "
        f"{shares_of(plan)} honest institutions' noise is in each"
    )
