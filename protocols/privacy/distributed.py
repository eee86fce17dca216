"""Noise under the sum: the public grid of a plan's integer lanes, and how much noise one institution adds.

An institution's vector is the sum of its units' clipped and conditionally rounded gradients, plus a share of Skellam noise (Kairouz, Liu
and Steinke 2021; Agarwal, Kairouz and Liu 2021). Every share has 1 / (t - c) of the variance that is accounted for, so that the sum carries
it whoever drops out, and if those who collude add none. All of this follows from the plan and the number of trained elements.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocols.encoding import largest_quantum
from protocols.epoch.terms import MOST_MEMBERS, threshold
from protocols.errors import PolicyError, PrivacyError
from protocols.privacy.accounting import SkellamSpend
from protocols.privacy.rounding import integer_bounds, scale_for

if TYPE_CHECKING:
    from protocols.plan import Plan

LANE_BOUND = largest_quantum(MOST_MEMBERS)  # integers of one institution that no cohort overflows
_UNLIKELY = 64 * math.log(2.0)  # a step draws more units than the grid has room for with probability 2^-64 at most


@dataclass(frozen=True, slots=True)
class Grid:
    """Integer lanes of one round: `scale` steps per 1, and one unit's largest norms in steps."""

    scale: float
    l2: float
    l1: float
    variance: float  # of the noise that nobody may leave out, in squared steps
    share: float  # of it, what each institution adds
    most_units: int  # that one institution may add up


def shares_of(plan: Plan) -> int:
    """Institutions whose noise counts: t - c of the smallest cohort that the plan allows."""
    sums = plan.secure_aggregation
    return threshold(sums.min_institutions, sums.colluding) - sums.colluding


def check_shares(plan: Plan, members_needed: int, colluding: int) -> None:
    """Raises PolicyError if an epoch's t - c is below what the plan's noise was divided by."""
    if members_needed - colluding < shares_of(plan):
        raise PolicyError(
            f"the epoch counts on the noise of {members_needed - colluding} institutions and the plan on that of {shares_of(plan)}; "
            "begin an epoch with more members, or with the plan's number of colluding ones"
        )


def most_units(batch_size: int) -> int:
    """What a Poisson-sampled step of `batch_size` expected units exceeds with probability 2^-64 at most (Bernstein's bound)."""
    return math.ceil(batch_size + math.sqrt(2.0 * batch_size * _UNLIKELY) + 2.0 * _UNLIKELY / 3.0)


def grid_of(plan: Plan, dimension: int) -> Grid:
    """The finest grid that carries `dimension` lanes of the plan's rounds, whatever cohort there is.

    Raises
    ------
    PrivacyError
        The plan adds no such noise, or its batches and noise fit no lane.
    """
    terms = plan.privacy
    if terms is None or terms.noise_multiplier is None:
        raise PrivacyError('noise under the sum needs privacy.mechanism = "distributed" with a noise_multiplier')
    shares, most, steps = shares_of(plan), most_units(plan.training.batch_size), plan.rounds
    scale = scale_for(terms.clip, dimension, most, terms.noise_multiplier, shares, MOST_MEMBERS, steps)
    l2, l1 = integer_bounds(terms.clip * scale, dimension)
    variance = (terms.noise_multiplier * l2) ** 2
    return Grid(scale, l2, l1, variance, variance / shares, most)


def step_scale(plan: Plan, dimension: int, learning_rate: float) -> float:
    """What makes a sum of integers a descent: an institution's mean over expected units, against the gradient."""
    return -learning_rate / (grid_of(plan, dimension).scale * plan.training.batch_size)


def round_spend(plan: Plan, dimension: int, sampling_rate: float, steps: int = 1) -> SkellamSpend:
    """What rounds of so many trained elements cost a unit that takes part with probability `sampling_rate`."""
    grid = grid_of(plan, dimension)
    return SkellamSpend(sampling_rate, grid.variance, grid.l2, grid.l1, steps)


def run_spends(plan: Plan, dimensions: Iterable[int], sampling_rate: float) -> list[SkellamSpend]:
    """The whole run's, from the trained elements of each of its rounds."""
    return [round_spend(plan, dimension, sampling_rate, steps) for dimension, steps in Counter(dimensions).items()]
