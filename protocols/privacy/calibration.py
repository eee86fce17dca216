"""The least noise that keeps a promise, to one part in a thousand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from protocols.errors import PrivacyError
from protocols.privacy import renyi
from protocols.privacy.accounting import LARGEST_EPSILON, AnySpend, SkellamSpend, Spend
from protocols.privacy.accounting import epsilon as epsilon_of

_PRECISION = 1e-3  # relative
_DOUBLINGS = 40
_LEAST = 1e-9  # epsilon whose logarithm stands for that of zero


def calibrate(epsilon: float, delta: float, sampling_rate: float, steps: int, releases: Sequence[AnySpend] = ()) -> float:
    """The smallest noise multiplier with which `steps` Gaussian steps and all of `releases` stay within epsilon at delta.

    Raises
    ------
    PrivacyError
        Epsilon is not above 0 and at most 100, another term is out of its range, or the releases leave nothing for the steps.
    """

    def roughly(noise_multiplier: float) -> float:
        return renyi.to_epsilon(Spend(sampling_rate, noise_multiplier, steps).curve(), delta)

    def spent(noise_multiplier: float) -> float:
        return epsilon_of([Spend(sampling_rate, noise_multiplier, steps), *releases], delta)

    _check_target(epsilon, delta, releases)
    # Renyi curves take milliseconds where loss distributions take tenths of a second; they cannot show the smallest epsilons.
    _, start = _bracket(roughly, max(epsilon, 0.1), 1.0)
    return _smallest(spent, epsilon, start)


def calibrate_skellam(
    epsilon: float, delta: float, sampling_rate: float, steps: int, sensitivity_l2: float, sensitivity_l1: float,
    releases: Sequence[AnySpend] = (),
) -> float:  # fmt: skip
    """The smallest variance, in squared integer units, with which `steps` Skellam steps and all of `releases` stay within epsilon at delta.

    Raises
    ------
    PrivacyError
        As in `calibrate`, and for epsilons of about log(1 / delta) / 500 and less, which Renyi curves of 512 orders cannot show.
    """

    def spent(variance: float) -> float:
        return epsilon_of([SkellamSpend(sampling_rate, variance, sensitivity_l2, sensitivity_l1, steps), *releases], delta)

    _check_target(epsilon, delta, releases)
    return _smallest(spent, epsilon, sensitivity_l2**2)


def _check_target(epsilon: float, delta: float, releases: Sequence[AnySpend]) -> None:
    if not 0.0 < epsilon <= LARGEST_EPSILON:
        raise PrivacyError(f"epsilon {epsilon} cannot be promised; set it above 0 and at most {LARGEST_EPSILON:g}")
    spent = epsilon_of(releases, delta)
    if spent >= epsilon:
        raise PrivacyError(f"other releases alone spend epsilon {spent:.3g} of {epsilon:g}; give them more noise or raise epsilon")


def _smallest(spent: Callable[[float], float], epsilon: float, start: float) -> float:
    """The smallest amount of noise that spends epsilon at most, rounded up by at most `_PRECISION`; more noise never spends more.

    False position on logarithms, in which epsilon is nearly a line. A step of half the precision from either end lets both ends close in.
    """
    low, high = _bracket(spent, epsilon, start)
    above, below = (math.log(max(spent(amount), _LEAST) / epsilon) for amount in (low, high))
    while high > low * (1.0 + _PRECISION):
        middle = low * (high / low) ** (above / (above - below))
        middle = min(max(middle, low * (1.0 + _PRECISION / 2.0)), high / (1.0 + _PRECISION / 2.0))
        found = math.log(max(spent(middle), _LEAST) / epsilon)
        if found <= 0.0:
            high, below = middle, found
        else:
            low, above = middle, found
    return high


def _bracket(spent: Callable[[float], float], epsilon: float, start: float) -> tuple[float, float]:
    """Amounts of noise, one twice the other, of which only the larger is enough."""
    high = start
    for _ in range(_DOUBLINGS):
        if spent(high) <= epsilon:
            break
        high *= 2.0
    else:
        raise PrivacyError("no amount of noise keeps the promise; raise epsilon or delta, or take fewer steps")
    while spent(high / 2.0) <= epsilon:
        high /= 2.0
    return high / 2.0, high
