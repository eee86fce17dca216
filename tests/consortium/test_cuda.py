"""A simulation on a GPU ends as one on a CPU does, up to rounding; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from consortium import simulate
from tests.consortium.small_plan import write_small

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")


def test_a_simulation_and_its_baselines(tmp_path: Path) -> None:
    plan = write_small(tmp_path, evaluation='metric = "bits_per_byte"')
    here = simulate(plan, tmp_path / "here")
    there = simulate(plan, tmp_path / "there", device="cuda")
    for name in ("base", "federated", "pooled"):
        assert there[name] == pytest.approx(here[name], rel=0.05), name
    assert there["federated_own"].keys() == here["federated_own"].keys()
