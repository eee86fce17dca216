"""The audit finds the leak of a run without noise, and none above what a run with noise declares."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.privacy_audit import audit, make_canaries


def test_canaries_differ_and_coins_are_fair() -> None:
    canaries = make_canaries(300, seed=3)
    assert len({row["note"] for row in canaries.rows}) == 300
    assert np.all(canaries.included == make_canaries(300, seed=3).included) and 100 < canaries.included.sum() < 200


@pytest.mark.slow
def test_the_audit_finds_a_leak_without_noise(tmp_path_factory: pytest.TempPathFactory) -> None:
    canaries = make_canaries(150, seed=1)
    bare = audit(tmp_path_factory.mktemp("bare") / "run", canaries, None)
    noised = audit(tmp_path_factory.mktemp("noised") / "run", canaries, 1.0, rounds=1)
    assert bare.declared is None and bare.guessed > 1.5 and bare.gap > 1.0
    assert noised.guessed <= 1.0 and noised.membership <= 1.0 and noised.gap < 0.5
