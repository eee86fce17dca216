"""An institution's share of a round on several processes is the one that a single process computes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from model.bases import bundled_base
from model.checkpoint.loading import load_checkpoint
from model.training import Execution
from tests.client.sharded_training import update


@pytest.mark.slow
def test_two_processes_return_the_update_of_one(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tests.client.sharded_training"]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run([*command, str(tmp_path)], cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    one = update(load_checkpoint(bundled_base("tiny"), torch.float32), Execution())
    for rank in (0, 1):
        found = dict(np.load(tmp_path / f"{rank}.npz"))
        assert found.pop("figures") == pytest.approx([one.loss_sum, one.examples, one.tokens], rel=1e-5)
        assert found.keys() == one.delta.keys()
        for name, values in one.delta.items():
            np.testing.assert_allclose(found[name], values, atol=2e-5, err_msg=name)
