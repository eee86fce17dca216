"""Noise under the sum: how it is divided, that lanes hold it, and that it is there if those who collude add none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from client.private_training import noised_sum
from protocols.epoch.terms import threshold
from protocols.errors import PolicyError, PrivacyError
from protocols.privacy.distributed import LANE_BOUND, check_shares, grid_of, most_units, shares_of, step_scale
from tests.federation.attacks.weakened import weakened
from tests.federation.private_plans import DISTRIBUTED, LOCAL, private_plan

PLAN = private_plan(DISTRIBUTED)
LANES = 4000


@pytest.mark.parametrize(("institutions", "colluding", "shares"), [(3, 1, 2), (4, 1, 2), (5, 1, 3), (7, 2, 3), (10, 3, 4)])
def test_shares_are_t_less_c_of_the_smallest_cohort(institutions: int, colluding: int, shares: int) -> None:
    plan = private_plan(DISTRIBUTED, secure_aggregation={"min_institutions": institutions, "colluding": colluding})
    assert shares_of(plan) == shares
    for members in range(institutions, 40):
        check_shares(plan, threshold(members, colluding), colluding, members)


def test_an_epoch_that_counts_on_less_noise_is_refused() -> None:
    plan = private_plan(DISTRIBUTED, secure_aggregation={"min_institutions": 5, "colluding": 1})
    with pytest.raises(PolicyError, match="the noise of 2 institutions and the plan on that of 3"):
        check_shares(plan, threshold(4, 1), 1, institutions=5)


def test_an_epoch_that_could_open_two_sets_is_refused_where_two_shares_are_not_enough() -> None:
    plan = private_plan(DISTRIBUTED, secure_aggregation={"min_institutions": 5, "colluding": 1})
    with pytest.raises(PolicyError, match="4 of 8 institutions .* two sums of one update, .* it needs a threshold of 5"):
        check_shares(plan, threshold(6, 1), 1, institutions=8)
    check_shares(plan, 5, 1, institutions=8)
    check_shares(private_plan(DISTRIBUTED), threshold(3, 1), 1, institutions=8)


@pytest.mark.parametrize(("units", "batch"), [(20, 16), (1000, 16), (10**6, 16), (10**6, 512), (3, 1)])
def test_more_units_than_lanes_hold_are_drawn_with_negligible_probability(units: int, batch: int) -> None:
    assert binom.sf(most_units(batch), units, min(1.0, batch / units)) <= 2.0**-64


def test_lanes_hold_units_and_noise() -> None:
    grid = grid_of(PLAN, LANES)
    assert grid.most_units * grid.l2 + 10 * math.sqrt(grid.share) < LANE_BOUND
    assert grid.l2 < 1.01 * grid.scale, "rounding adds little to the clip"


def test_a_plan_without_such_noise_has_no_grid() -> None:
    with pytest.raises(PrivacyError, match="noise_multiplier"):
        grid_of(private_plan(LOCAL), 10)


def test_the_sum_is_the_clipped_gradients_within_rounding_and_noise() -> None:
    grid = grid_of(PLAN, LANES)
    gradient = np.zeros(LANES)
    gradient[0] = 1.0
    vectors = [noised_sum([gradient] * 5, grid, LANES, bytes([number]) * 32) for number in range(3)]
    total = np.sum(vectors, 0)
    deviation = math.sqrt(3 * grid.share)
    assert abs(total[0] - 15 * grid.scale) < 6 * deviation and abs(total[1:].mean()) < 6 * deviation / math.sqrt(LANES)
    step = total[0] * step_scale(PLAN, LANES, 0.01) / 3
    assert step == pytest.approx(-0.01 * 5 / PLAN.training.batch_size, rel=6 * deviation / (15 * grid.scale))


def variance_of_honest_noise(institutions: int, colluding: int) -> float:
    """Of a sum in which the smallest set took part and those who collude added nothing, over what the accountant was told."""
    plan = private_plan(DISTRIBUTED, secure_aggregation={"min_institutions": institutions, "colluding": colluding})
    grid = grid_of(plan, LANES)
    honest = threshold(institutions, colluding) - colluding
    total = np.sum([noised_sum([], grid, LANES, bytes([number]) * 32) for number in range(honest)], 0)
    return float(np.mean(total.astype(np.float64) ** 2) / grid.variance)


def test_noise_omitted_by_c() -> None:
    """To leave less noise than is accounted for: c survivors add none, and as many as may be missing are."""
    slack = 5 * math.sqrt(2 / LANES)
    with weakened("protocols.privacy.distributed.shares_of", by=lambda plan: plan.secure_aggregation.min_institutions):
        assert variance_of_honest_noise(7, 2) < 0.5 + slack  # three of seven shares
    assert variance_of_honest_noise(7, 2) > 1.0 - slack
