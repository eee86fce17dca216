"""Noise under the sum: the public grid of a plan's integer lanes, and how much noise one institution adds.

An institution's vector is the sum of its units' clipped and conditionally rounded gradients, plus a share of Skellam noise (Kairouz, Liu
and Steinke 2021; Agarwal, Kairouz and Liu 2021). Every share has 1 / (t - c) of the variance that is accounted for, so that the sum carries
it whoever drops out, and if those who collude add none. Of an update one set alone may be opened: two sums of the same vectors have a
difference, in which fewer shares may be. All of this follows from the plan and the number of trained elements.
"""

from __future__ import annotations

import math
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
FEWEST_HONEST = 2  # in whatever follows from sums of the same vectors over several sets (PROTOCOL, section 2: t - c >= 2)
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


def least_threshold(plan: Plan, institutions: int) -> int:
    """Fewest that open an update of some of so many institutions, in an epoch of however few.

    Two sets that large share an honest institution, which signs one set of the update alone. In the difference of two sets there may be
    the noise of two honest institutions only, so 0 where two shares are enough.
    """
    return threshold(institutions, plan.secure_aggregation.colluding) if shares_of(plan) > FEWEST_HONEST else 0


def check_shares(plan: Plan, members_needed: int, colluding: int, institutions: int) -> None:
    """Whether what may be opened carries the plan's noise.

    Parameters
    ----------
    members_needed, colluding
        t and c of the epoch.
    institutions
        That may take part in the sum: everybody, or a batch.

    Raises
    ------
    PolicyError
        The epoch's t - c is below what the plan's noise was divided by, or two sets of one update could be opened.
    """
    if members_needed - colluding < shares_of(plan):
        raise PolicyError(
            f"the epoch counts on the noise of {members_needed - colluding} institutions and the plan on that of {shares_of(plan)}; "
            "begin an epoch with more members, or with the plan's number of colluding ones"
        )
    fewest = least_threshold(plan, institutions)
    if members_needed < fewest:
        raise PolicyError(
            f"an epoch in which {members_needed} of {institutions} institutions open a sum could open two sums of one update, and their "
            f"difference has less noise than the plan counts on; it needs a threshold of {fewest}"
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


def round_spend(plan: Plan, dimension: int, sampling_rate: float) -> SkellamSpend:
    """What a round of so many trained elements costs a unit that takes part with probability `sampling_rate`."""
    grid = grid_of(plan, dimension)
    return SkellamSpend(sampling_rate, grid.variance, grid.l2, grid.l1, steps=1)
