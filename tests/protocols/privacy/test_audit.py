"""Audits on mechanisms whose epsilon is known: below it, far from zero where there is no noise, at zero where nothing leaks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from protocols.errors import PrivacyError
from protocols.privacy.accounting import Release, epsilon
from protocols.privacy.audit import lower_bound_from_guesses, lower_bound_membership, lower_bound_one_run

CANARIES, DELTA = 1000, 1e-5


def _run(noise: float, seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """One run of a Gaussian mechanism in which each canary has a coordinate of its own."""
    generator = np.random.default_rng(seed)
    coins = generator.random(CANARIES) < 0.5
    return coins + generator.normal(0.0, noise, CANARIES), coins


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "delta", "published"),
    [(1000, 100, 75, 1e-4, 0.673), (100_000, 1510, 1439, 1e-5, 2.675)],
)
def test_the_papers_figures(canaries: int, guesses: int, correct: int, delta: float, published: float) -> None:
    """Steinke, Nasr and Jagielski 2023, appendix D and section 7."""
    assert lower_bound_from_guesses(canaries, guesses, correct, delta) == pytest.approx(published, abs=1e-3)


@pytest.mark.parametrize("noise", [0.7, 2.0])
def test_bounds_of_a_known_mechanism_are_below_its_epsilon(noise: float) -> None:
    known = epsilon([Release(noise)], DELTA)
    one_run = [lower_bound_one_run(*_run(noise, seed), DELTA, 200) for seed in range(100)]
    membership = []
    for seed in range(100):
        scores, coins = _run(noise, seed)
        membership.append(lower_bound_membership(scores[coins], scores[~coins], DELTA))
    for bounds in (one_run, membership):
        assert np.mean(np.array(bounds) <= known) >= 0.95
        assert np.median(bounds) > (0.2 if noise < 1 else 0.05) * known, "an audit that shows nothing would pass the line above"


def test_a_mechanism_with_too_little_noise_is_found_out() -> None:
    """A mechanism of epsilon 7 that claims half of one."""
    claimed = 0.5
    scores, coins = _run(0.7, 0)
    assert lower_bound_one_run(scores, coins, DELTA, 100) > claimed
    assert lower_bound_membership(scores[coins], scores[~coins], DELTA) > claimed


def test_without_noise_the_bound_is_large() -> None:
    scores, coins = _run(1e-9, 0)
    assert lower_bound_one_run(scores, coins, 0.0, 900) > 5.5
    assert lower_bound_membership(scores[coins], scores[~coins], DELTA) > 4.0


def test_others_that_are_told_for_certain_count_too() -> None:
    """No threshold names members without half of the others, but what is below one half was never a member."""
    assert lower_bound_membership(np.ones(1000), np.repeat([0.0, 1.0], 500), DELTA) > 4.0


def test_scores_that_know_nothing_show_nothing() -> None:
    one_run, membership = [], []
    for seed in range(100):
        scores, coins = _run(1e9, seed)
        one_run.append(lower_bound_one_run(scores, coins, DELTA, 500))
        membership.append(lower_bound_membership(scores[coins], scores[~coins], DELTA))
    assert np.mean(np.array(one_run) > 0) <= 0.1 and np.mean(np.array(membership) > 0) <= 0.1
    assert np.median(one_run) == 0.0 and np.median(membership) == 0.0


@pytest.mark.parametrize("order", [1, -1])
def test_equal_scores_show_nothing_in_whatever_order_canaries_stand(order: int) -> None:
    coins = np.repeat([True, False], 50)[::order]
    assert lower_bound_one_run(np.zeros(100), coins, 0.0, 50) == 0.0
    assert lower_bound_membership(np.zeros(50), np.zeros(50), 0.0) == 0.0


def test_delta_and_confidence_lower_the_bound() -> None:
    scores, coins = _run(0.5, 3)
    bounds = [lower_bound_one_run(scores, coins, delta, 200, level) for delta, level in ((0.0, 0.9), (0.0, 0.99), (1e-3, 0.99))]
    assert bounds == sorted(bounds, reverse=True) and bounds[0] > bounds[2]


def test_audits_of_nothing_are_refused() -> None:
    scores, coins = _run(1.0, 0)
    wrong: list[Callable[[], float]] = [
        lambda: lower_bound_one_run(scores, coins[:-1], DELTA, 100),
        lambda: lower_bound_one_run(scores, coins, DELTA, 0),
        lambda: lower_bound_one_run(scores, coins, DELTA, CANARIES + 1),
        lambda: lower_bound_one_run(scores, coins, 1.0, 100),
        lambda: lower_bound_one_run(scores, coins, DELTA, 100, 1.0),
        lambda: lower_bound_one_run(np.where(coins, np.nan, scores), coins, DELTA, 100),
        lambda: lower_bound_membership(scores[:1], scores, DELTA),
    ]
    for audit in wrong:
        with pytest.raises(PrivacyError):
            audit()
