"""Two processes that share a network train what one would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model.checkpoint.loading import load_checkpoint
from model.checkpoint.saving import save_checkpoint
from model.training import Execution
from tests.model.checkpoint.stored import to_fp8
from tests.model.configurations import random_network
from tests.model.parallel_step import trained


@pytest.mark.parametrize("mode", ["lora", pytest.param("full", marks=pytest.mark.slow), pytest.param("fp8", marks=pytest.mark.slow)])
def test_two_processes_take_the_steps_of_one(mode: str, tmp_path: Path) -> None:
    save_checkpoint(random_network(num_nextn_predict_layers=1), tmp_path / "base")
    if mode == "fp8":
        to_fp8(tmp_path / "base", lambda name: name.endswith("_proj.weight") and "eh_proj" not in name)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tests.model.parallel_step"]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run([*command, str(tmp_path), mode], cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    state, result = trained(load_checkpoint(tmp_path / "base"), mode, Execution())
    first, second = (dict(np.load(tmp_path / f"{rank}.npz")) for rank in (0, 1))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert first["facts"][:3] == pytest.approx([result.loss_sum, result.examples, result.target_tokens], rel=1e-5)
    assert first["facts"][3] < 0.7
    assert all(np.array_equal(first[f"counts.{layer}"], counts.numpy()) for layer, counts in result.expert_counts.items())
    for name, values in state.items():
        np.testing.assert_allclose(first[name], values, atol=2e-5, err_msg=name)
