"""A whole simulation whose routers' biases move: the real network reads them, and the released model has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from consortium import simulate
from tests.consortium.small_plan import write_small


@pytest.mark.slow
def test_biases_of_a_simulation_move_in_steps_and_are_released(tmp_path: Path) -> None:
    plan = write_small(tmp_path)
    moving = 'experts = "none"\nrouter_bias = "summed-counts"\nrouter_bias_speed = 0.0078125'
    plan.write_text(plan.read_text().replace('experts = "none"', moving))
    report = simulate(plan, tmp_path / "out")
    tensors = load_file(Path(report["model"]) / "adapter_model.safetensors")
    biases = [values for name, values in tensors.items() if name.endswith("e_score_correction_bias")]
    assert len(biases) == 3
    steps = np.concatenate(biases) * 128
    assert set(steps.tolist()) <= {-2.0, -1.0, 0.0, 1.0, 2.0}
    assert np.abs(steps).mean() > 1.0, "two rounds that move most experts the same way"
