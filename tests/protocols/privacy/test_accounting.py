"""Epsilon against closed forms, published figures, another accountant, and what samples of the privacy loss show."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ive, logsumexp

from protocols.errors import PrivacyError
from protocols.privacy import renyi
from protocols.privacy.accounting import AnySpend, Release, SkellamSpend, Spend, check_delta, epsilon, from_dict, to_dict

Floats = NDArray[np.float64]
RATES, NOISES, STEPS = st.floats(1e-3, 0.2), st.floats(1.0, 10.0), st.integers(1, 100)


def _delta_of_losses(losses: Floats, at: float) -> tuple[float, float]:
    """Hockey-stick divergence from samples of the privacy loss, and its standard error."""
    excess = np.maximum(-np.expm1(at - losses), 0.0)
    return float(excess.mean()), float(excess.std() / math.sqrt(len(losses)))


def _log_mass(grid: NDArray[np.int64], variance: float) -> Floats:
    """Of the Skellam law, through the scaled Bessel function: scipy's own mass underflows in the tails."""
    return np.asarray(np.log(ive(np.abs(grid), variance)))


def _losses(rate: float, removal: bool, draw: Callable[[int], Floats], log_ratio: Callable[[Floats], Floats], shift: float = 1.0) -> Floats:
    """Privacy losses of 20 sampled mechanisms, [100 000]; `log_ratio` is that of the noise with one unit over that without."""
    generator, total = np.random.default_rng(1), np.zeros(100_000)
    for _ in range(20):
        shifted = shift * (generator.random(len(total)) < rate) if removal else 0.0
        loss = np.log1p(rate * np.expm1(log_ratio(draw(len(total)) + shifted)))
        total += loss if removal else -loss
    return total


@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0])
def test_one_gaussian_is_the_closed_form(noise: float) -> None:
    """Balle and Wang 2018, Theorem 8."""
    found = epsilon([Release(noise)], 1e-5)
    exact = stats.norm.cdf(0.5 / noise - found * noise) - math.exp(found) * stats.norm.cdf(-0.5 / noise - found * noise)
    assert exact == pytest.approx(1e-5, rel=5e-3) and exact <= 1e-5
    assert epsilon([Spend(1.0, noise, 1)], 1e-5) == found


def test_the_moments_accountants_example_is_not_exceeded() -> None:
    """Abadi et al. 2016, section 3.2: q = 0.01, sigma = 4, 10 000 steps give 1.26 at delta 1e-5."""
    assert 0.9 < epsilon([Spend(0.01, 4.0, 10_000)], 1e-5) <= 1.26


@pytest.mark.parametrize(("rate", "noise", "steps"), [(0.01, 1.0, 1000), (0.1, 2.0, 100), (0.01, 10.0, 1000)])
def test_distributions_agree_with_the_library_and_renyi_is_above(rate: float, noise: float, steps: int) -> None:
    accountant = PLDAccountant(value_discretization_interval=5e-5)
    accountant.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), steps)
    exact, spend = accountant.get_epsilon(1e-6), Spend(rate, noise, steps)
    assert exact * (1 - 5e-4) <= epsilon([spend], 1e-6) <= exact * 1.003
    assert exact < renyi.to_epsilon(spend.curve(), 1e-6) < exact * 1.25


@pytest.mark.parametrize("noise", [0.4, 0.3])
def test_little_noise_is_not_overstated(noise: float) -> None:
    """Renyi curves say three to twelve times as much, which a calibrated run would pay in noise."""
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    accountant.compose(PoissonSampledDpEvent(0.05, GaussianDpEvent(noise)), 240)
    exact, spend = accountant.get_epsilon(1e-5), Spend(0.05, noise, 240)
    assert renyi.to_epsilon(spend.curve(), 1e-5) > 3 * exact
    assert exact * (1 - 5e-4) <= epsilon([spend], 1e-5) <= exact * 1.003


@pytest.mark.parametrize("spends", [[Spend(1e-6, 0.05, 1)], [Spend(1e-6, 0.09, 9)], [Spend(1e-6, 0.05, 1), Release(300.0)]])
def test_a_delta_above_what_is_ever_drawn_is_accounted_too(spends: list[AnySpend]) -> None:
    """Such as the policy's delta of today for the few steps that a larger institution took before; Renyi curves say 100 to 400."""
    assert 0.0 <= epsilon(spends, 1e-5) < 0.02


@pytest.mark.parametrize("delta", [1e-10, 1e-12])
def test_rounding_of_many_convolutions_is_never_below_exact(delta: float) -> None:
    """A sampling rate next to 1 is one Gaussian, whose epsilon has a closed form."""
    found, noise = epsilon([Spend(1.0 - 1e-9, math.sqrt(1000) / 4.0, 1000)], delta), 0.25
    exact = stats.norm.cdf(0.5 / noise - found * noise) - math.exp(found) * stats.norm.cdf(-0.5 / noise - found * noise)
    assert exact <= delta
    few = Spend(0.5, 2.0, 200)  # 200 steps may hide more than this delta
    assert epsilon([few], 1e-12) == renyi.to_epsilon(few.curve(), 1e-12)


def test_the_gaussian_curve_is_the_librarys() -> None:
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(renyi.ORDERS.tolist())
    accountant.compose(PoissonSampledDpEvent(0.02, GaussianDpEvent(1.3)), 7)
    assert renyi.to_epsilon(Spend(0.02, 1.3, 7).curve(), 1e-5) == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-9)


@pytest.mark.parametrize("delta", [1e-2, 1e-3])
def test_samples_of_the_gaussian_loss_show_the_reported_delta(delta: float) -> None:
    rate, noise, shown = 0.1, 0.8, []
    found = epsilon([Spend(rate, noise, 20)], delta)
    generator = np.random.default_rng(0)
    for removal in (True, False):
        losses = _losses(rate, removal, lambda n: generator.normal(0, noise, n), lambda x: (x - 0.5) / noise**2)
        at, error = _delta_of_losses(losses, found)
        assert at <= delta + 4 * error
        shown.append(at)
    assert max(shown) > 0.8 * delta


def test_samples_of_the_skellam_loss_stay_below_the_reported_delta() -> None:
    rate, shift, variance, delta = 0.1, 4, 16.0, 1e-3
    found = epsilon([SkellamSpend(rate, variance, shift, shift, 20)], delta)
    log_mass = _log_mass(np.arange(-100, 101), variance)
    generator = np.random.default_rng(0)

    def draw(n: int) -> Floats:
        return (generator.poisson(variance / 2, n) - generator.poisson(variance / 2, n)).astype(float)

    def log_ratio(x: Floats) -> Floats:
        place = x.astype(int) + 100
        return np.asarray(log_mass[place - shift] - log_mass[place])

    removal, addition = (_losses(rate, removed, draw, log_ratio, shift) for removed in (True, False))
    for losses in (removal, addition):
        at, error = _delta_of_losses(losses, found)
        assert at <= delta + 4 * error
    assert _delta_of_losses(removal, found / 1.6)[0] > delta, "the report is within 60 % of exact"


@pytest.mark.parametrize("variance", [0.5, 3.0, 40.0])
@pytest.mark.parametrize("rate", [0.05, 1.0])
def test_the_skellam_curve_bounds_the_exact_divergence_both_ways(variance: float, rate: float) -> None:
    shift, grid = 2, np.arange(-90, 91)
    without, noised = _log_mass(grid, variance), _log_mass(grid - shift, variance)
    mixed = np.logaddexp(math.log(rate) + noised, math.log1p(-rate) + without) if rate < 1.0 else noised
    curve = renyi.poisson_sampled(renyi.skellam(variance, shift, shift), rate)
    for order in (2, 3, 5, 8):
        removal = logsumexp(order * mixed + (1 - order) * without) / (order - 1)
        addition = logsumexp(order * without + (1 - order) * mixed) / (order - 1)
        assert max(removal, addition) <= curve[order - 2] * (1 + 1e-9)
        assert variance < 40 or curve[order - 2] < 1.4 * removal


@settings(max_examples=4, deadline=None)
@given(RATES, NOISES, STEPS)
def test_more_steps_units_or_privacy_cost_more_and_noise_costs_less(rate: float, noise: float, steps: int) -> None:
    base = epsilon([Spend(rate, noise, steps)], 1e-6)
    slack = 1 - 4e-3
    assert epsilon([Spend(rate, noise, 2 * steps)], 1e-6) >= base * slack
    assert epsilon([Spend(min(2 * rate, 1.0), noise, steps)], 1e-6) >= base * slack
    assert epsilon([Spend(rate, noise, steps), Release(20.0)], 1e-6) >= base * slack
    assert epsilon([Spend(rate, noise, steps)], 1e-8) >= base * slack
    assert epsilon([Spend(rate, 2 * noise, steps)], 1e-6) * slack <= base


@settings(max_examples=25, deadline=None)
@given(RATES, st.floats(0.5, 1e6), STEPS)
def test_skellam_spends_are_monotone_too(rate: float, variance: float, steps: int) -> None:
    base = epsilon([SkellamSpend(rate, variance, 1.0, 1.0, steps)], 1e-6)
    assert epsilon([SkellamSpend(rate, variance, 1.0, 1.0, steps + 1)], 1e-6) >= base
    assert epsilon([SkellamSpend(rate, variance, 1.0, 3.0, steps)], 1e-6) >= base
    assert epsilon([SkellamSpend(rate, 2 * variance, 1.0, 1.0, steps)], 1e-6) <= base


@pytest.mark.parametrize("spend", [Spend(0.05, 1.0, 100), Release(3.0), SkellamSpend(0.05, 1e6, 1e3, 1e5, 100)])
def test_composition_depends_neither_on_grouping_nor_on_order(spend: AnySpend) -> None:
    half = (Spend(0.05, 1.0, 50), Release(3.0 * math.sqrt(2)), SkellamSpend(0.05, 1e6, 1e3, 1e5, 50))
    halves = next(one for one in half if one.kind == spend.kind)
    assert epsilon([halves, halves], 1e-6) == pytest.approx(epsilon([spend], 1e-6), rel=1e-6)
    other = Spend(0.01, 2.0, 10)
    assert epsilon([spend, other], 1e-6) == pytest.approx(epsilon([other, spend], 1e-6), rel=1e-6)


def test_skellam_noise_of_a_fine_grid_costs_what_gaussian_noise_does() -> None:
    fine = epsilon([SkellamSpend(0.01, 1e12, 1e6, 1e6, 1000)], 1e-6)
    assert fine == pytest.approx(renyi.to_epsilon(Spend(0.01, 1.0, 1000).curve(), 1e-6), rel=1e-4)
    assert epsilon([SkellamSpend(0.01, 1e12, 1e6, 1e6, 1000), Release(5.0)], 1e-6) > fine


def test_nothing_spent_is_nothing_and_no_noise_is_finite_yet_useless() -> None:
    assert epsilon([], 1e-6) == 0.0
    assert 1e4 < epsilon([Spend(1.0, 0.01, 10)], 1e-6) < math.inf


@pytest.mark.parametrize("spend", [Spend(0.01, 1.1, 7), Release(8.0), SkellamSpend(0.5, 100.0, 10.0, 40.0, 3)])
def test_a_ledger_gives_back_what_was_written(spend: AnySpend) -> None:
    document = json.loads(json.dumps(to_dict(spend)))
    assert from_dict(document) == spend
    for broken in ({**document, "more": 1}, {**document, "kind": "laplace"}, {"kind": document["kind"]}):
        with pytest.raises(PrivacyError):
            from_dict(broken)
    for name in document.keys() - {"kind"}:
        for value in (0, -1.0, math.nan, math.inf, True, "1", None):
            with pytest.raises(PrivacyError):
                from_dict({**document, name: value})


def test_terms_that_promise_nothing_are_refused() -> None:
    check_delta(1e-6, 100_000)
    for delta in (1e-5, 0.0, math.nan):
        with pytest.raises(PrivacyError, match=r"set it below 1e-05"):
            check_delta(delta, 100_000)
    for bad in (0.0, 1e-13, 1.0, math.nan):
        with pytest.raises(PrivacyError):
            epsilon([Release(1.0)], bad)
    with pytest.raises(PrivacyError, match="not a probability"):
        Spend(1.01, 1.0, 1)
    with pytest.raises(PrivacyError, match="whole number"):
        from_dict({"kind": "gaussian", "sampling_rate": 0.1, "noise_multiplier": 1.0, "steps": 1.5})
    with pytest.raises(PrivacyError, match="L1 sensitivity"):
        SkellamSpend(0.1, 1.0, 2.0, 1.0, 1)


def test_spends_are_read_without_what_takes_long_to_import() -> None:
    code = (
        "import sys, protocols.privacy.accounting, protocols.privacy.audit; sys.exit(bool({'scipy', 'dp_accounting'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
