"""What an attacker's scores show: an epsilon below which a mechanism cannot be, at a level of confidence.

A bound far below the accounted epsilon is no proof of privacy: a better attack may show more. One above it is proof of a fault.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from protocols.errors import PrivacyError

Scores = NDArray[np.float64]
_LARGEST = 64.0  # epsilon beyond which nothing is looked for
_PRECISION = 1e-4
_THRESHOLDS = 1000


def lower_bound_one_run(scores: Scores, included: NDArray[np.bool_], delta: float, guesses: int, confidence: float = 0.95) -> float:
    """Lower bound on epsilon from one run into which each of m canaries was put by a fair coin of its own.

    The auditor guesses that the canaries with the highest scores are in and those with the lowest are out, half of `guesses` each, and
    abstains from the others (Steinke, Nasr and Jagielski 2023, "Privacy auditing with one (1) training run", algorithm 1, theorem 3.1 and
    appendix D).

    Parameters
    ----------
    scores
        float64 [m], higher for what looks included. Equal scores are ordered against the auditor, which can only lower the bound.
    included
        bool [m], the coins.
    guesses
        Fixed before the scores are seen.

    Raises
    ------
    PrivacyError
        Scores and coins do not match, a score is not a number, or guesses, delta or confidence are out of range.
    """
    scores, coins = np.asarray(scores, np.float64), np.asarray(included, np.bool_)
    _check(delta, confidence, scores)
    if scores.shape != coins.shape or not 0 < guesses <= scores.size:
        raise PrivacyError(f"{scores.size} scores do not give {guesses} guesses on {coins.size} canaries; pass one score a canary")
    ins, outs = (guesses + 1) // 2, guesses // 2
    # Among equal scores "in" is guessed first of those that are out and "out" of those that are in, whatever order the caller has.
    highest, lowest = np.lexsort((coins, -scores))[:ins], np.lexsort((~coins, scores))
    lowest = lowest[~np.isin(lowest, highest)][:outs]
    correct = int(coins[highest].sum() + (~coins[lowest]).sum())
    return lower_bound_from_guesses(scores.size, guesses, correct, delta, confidence)


def lower_bound_from_guesses(canaries: int, guesses: int, correct: int, delta: float, confidence: float = 0.95) -> float:
    """The largest epsilon, to 1e-4, under which so many correct guesses have a probability below 1 - confidence; 0 if there is none."""
    low, high = 0.0, _LARGEST
    while high - low > _PRECISION:
        middle = (low + high) / 2.0
        rejected = _p_value(canaries, guesses, correct, middle, delta) < 1.0 - confidence
        low, high = (middle, high) if rejected else (low, middle)
    return low


def lower_bound_membership(member_scores: Scores, other_scores: Scores, delta: float, confidence: float = 0.95) -> float:
    """Lower bound on epsilon from how well a threshold on a score, higher for members, tells members from others.

    Threshold and direction are chosen on every other score and evaluated on the rest; the true rate is at least and the false rate at
    most its Clopper-Pearson limit, (1 - confidence) / 2 for each, so that epsilon >= log((true rate - delta) / false rate) (Jagielski,
    Ullman and Oprea 2020; Nasr et al. 2021). Scores must be independent, as those of separately trained models are; those of one model
    are so only if what each is about does not move the others.

    Raises
    ------
    PrivacyError
        Fewer than two scores of either kind, a score that is not a number, or delta or confidence out of range.
    """
    members, others = np.asarray(member_scores, np.float64), np.asarray(other_scores, np.float64)
    _check(delta, confidence, members, others)
    if min(members.size, others.size) < 2:
        raise PrivacyError("an attack is measured on two members and two others at least; pass more scores")
    chosen = (members[::2], others[::2])
    thresholds = np.unique(np.quantile(np.concatenate(chosen), np.linspace(0.0, 1.0, _THRESHOLDS), method="nearest"))
    bounds = _bounds_at(thresholds, *chosen, delta, confidence)
    direction, best = np.unravel_index(int(bounds.argmax()), bounds.shape)
    final = _bounds_at(thresholds[best : best + 1], members[1::2], others[1::2], delta, confidence)
    return max(float(final[direction, 0]), 0.0)


def _p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Probability of at least so many correct guesses under (epsilon, delta), at most (theorem 3.1 there)."""
    from scipy.stats import binom

    right = 1.0 / (1.0 + math.exp(-epsilon))
    at_least = float(binom.sf(correct - 1, guesses, right))
    nearly = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guesses, right)) / np.arange(1, correct + 1)
    return at_least + 2.0 * canaries * delta * float(nearly.max(initial=0.0))


def _bounds_at(thresholds: Scores, members: Scores, others: Scores, delta: float, confidence: float) -> NDArray[np.float64]:
    """Bounds, [2, thresholds], from saying "member" at or above each threshold, and from saying "other" below it."""
    member_above, other_above = (np.array([(scores >= t).sum() for t in thresholds]) for scores in (members, others))
    said_member = _log_ratio((member_above, members.size), (other_above, others.size), delta, confidence)
    member_below, other_below = members.size - member_above, others.size - other_above
    said_other = _log_ratio((other_below, others.size), (member_below, members.size), delta, confidence)
    return np.stack([said_member, said_other])


def _log_ratio(
    true: tuple[NDArray[np.int64], int], false: tuple[NDArray[np.int64], int], delta: float, confidence: float
) -> NDArray[np.float64]:
    """log((p - delta) / q) of the limits of the two rates (Clopper and Pearson 1934), -inf where p is not above delta."""
    from scipy.stats import beta

    error = (1.0 - confidence) / 2.0
    hits, trials = true
    least = np.where(hits > 0, beta.ppf(error, np.maximum(hits, 1), trials - hits + 1), 0.0)
    hits, trials = false
    most = np.where(hits < trials, beta.ppf(1.0 - error, hits + 1, np.maximum(trials - hits, 1)), 1.0)
    return np.where(least > delta, np.log(np.maximum(least - delta, 1e-300) / most), -np.inf)


def _check(delta: float, confidence: float, *scores: Scores) -> None:
    if not (0.0 <= delta < 1.0 and 0.0 < confidence < 1.0):
        raise PrivacyError(f"an audit at delta {delta} and confidence {confidence} shows nothing; set both below 1, confidence above 0")
    if any(np.isnan(one).any() for one in scores):
        raise PrivacyError("a score of an audit is not a number; leave its canary out or score it")
