"""The calibrated noise keeps the promise, and a little less does not."""

from __future__ import annotations

import pytest

from protocols.errors import PrivacyError
from protocols.privacy.accounting import Release, SkellamSpend, Spend, epsilon
from protocols.privacy.calibration import calibrate, calibrate_skellam

RELEASES = [Release(4.0)]


@pytest.mark.parametrize("target", [0.5, 8.0])
def test_the_least_gaussian_noise_is_found(target: float) -> None:
    noise = calibrate(target, 1e-6, 0.01, 300)
    assert epsilon([Spend(0.01, noise, 300)], 1e-6) <= target < epsilon([Spend(0.01, 0.997 * noise, 300)], 1e-6)


def test_releases_are_paid_for_by_more_noise_in_the_steps() -> None:
    noise = calibrate(2.0, 1e-6, 0.01, 300, RELEASES)
    assert epsilon([Spend(0.01, noise, 300), *RELEASES], 1e-6) <= 2.0
    assert epsilon([Spend(0.01, 0.98 * noise, 300)], 1e-6) < 2.0, "alone, the steps could do with less"


def test_the_least_skellam_variance_is_found() -> None:
    variance = calibrate_skellam(2.0, 1e-6, 0.01, 300, 1e3, 1e6, RELEASES)
    spends = [SkellamSpend(0.01, factor * variance, 1e3, 1e6, 300) for factor in (1.0, 0.997)]
    assert epsilon([spends[0], *RELEASES], 1e-6) <= 2.0 < epsilon([spends[1], *RELEASES], 1e-6)


def test_epsilons_below_what_renyi_curves_show_are_found_for_gaussians_alone() -> None:
    noise = calibrate(0.01, 1e-6, 0.01, 300)
    assert epsilon([Spend(0.01, noise, 300)], 1e-6) <= 0.01
    with pytest.raises(PrivacyError, match="no amount of noise"):
        calibrate_skellam(0.01, 1e-6, 0.01, 300, 1e3, 1e6)


def test_what_cannot_be_promised_is_refused() -> None:
    for target in (0.0, -1.0, 101.0, float("nan")):
        with pytest.raises(PrivacyError, match="cannot be promised"):
            calibrate(target, 1e-6, 0.01, 300)
    with pytest.raises(PrivacyError, match="other releases alone"):
        calibrate(0.5, 1e-6, 0.01, 300, RELEASES)
    with pytest.raises(PrivacyError):
        calibrate_skellam(1.0, 1e-6, 1.5, 300, 1e3, 1e6)
