"""The least noise that keeps a promise, to one part in a thousand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocols.errors import PrivacyError
from protocols.privacy.accounting import LARGEST_EPSILON, AnySpend, SkellamSpend, Spend
from protocols.privacy.accounting import epsilon as epsilon_of

_PRECISION = 1e-3  # relative
_DOUBLINGS = 40


def calibrate(epsilon: float, delta: float, sampling_rate: float, steps: int, releases: Sequence[AnySpend] = ()) -> float:
    """The smallest noise multiplier with which `steps` Gaussian steps and all of `releases` stay within epsilon at delta.

    Raises
    ------
    PrivacyError
        Epsilon is not above 0 and at most 100, another term is out of its range, or the releases leave nothing for the steps.
    """

    def fits(noise_multiplier: float) -> bool:
        return epsilon_of([Spend(sampling_rate, noise_multiplier, steps), *releases], delta) <= epsilon

    _check_target(epsilon, delta, releases)
    return _smallest(fits, 1.0)


def calibrate_skellam(
    epsilon: float, delta: float, sampling_rate: float, steps: int, sensitivity_l2: float, sensitivity_l1: float,
    releases: Sequence[AnySpend] = (),
) -> float:  # fmt: skip
    """The smallest variance, in squared integer units, with which `steps` Skellam steps and all of `releases` stay within epsilon at delta.

    Raises
    ------
    PrivacyError
        As in `calibrate`.
    """

    def fits(variance: float) -> bool:
        return epsilon_of([SkellamSpend(sampling_rate, variance, sensitivity_l2, sensitivity_l1, steps), *releases], delta) <= epsilon

    _check_target(epsilon, delta, releases)
    return _smallest(fits, sensitivity_l2**2)


def _check_target(epsilon: float, delta: float, releases: Sequence[AnySpend]) -> None:
    if not 0.0 < epsilon <= LARGEST_EPSILON:
        raise PrivacyError(f"epsilon {epsilon} cannot be promised; set it above 0 and at most {LARGEST_EPSILON:g}")
    spent = epsilon_of(releases, delta)
    if spent >= epsilon:
        raise PrivacyError(f"other releases alone spend epsilon {spent:.3g} of {epsilon:g}; give them more noise or raise epsilon")


def _smallest(fits: Callable[[float], bool], start: float) -> float:
    """The smallest amount that fits, rounded up by at most `_PRECISION`; more of it always fits better."""
    high = start
    for _ in range(_DOUBLINGS):
        if fits(high):
            break
        high *= 2.0
    else:
        raise PrivacyError("no amount of noise keeps the promise; raise epsilon or delta, or take fewer steps")
    low = high / 2.0
    while fits(low):
        low, high = low / 2.0, low
    while high > low * (1.0 + _PRECISION):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
