"""Loading takes the memory of the weights, and of one tensor on its way to another type."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model.checkpoint.headers import read_headers
from model.config import ModelConfig
from tests.model.checkpoint.stored import write_repeated
from tests.model.configurations import SMALL

MEBIBYTE = 1 << 20
SIZES = SMALL | {"hidden_size": 1024, "moe_intermediate_size": 512, "intermediate_size": 2048, "vocab_size": 32000}
SMALL_CONFIG = ModelConfig(**SIZES | {"n_routed_experts": 32, "num_hidden_layers": 2})  # 0.25 GB in bfloat16
LARGE_CONFIG = ModelConfig(**SIZES | {"n_routed_experts": 64, "num_hidden_layers": 15})  # 3.0 GB
PEAK = """
import json, re, sys, torch
from pathlib import Path
from model.bases import bundled_base
from model.checkpoint.loading import load_checkpoint

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

dtype = getattr(torch, sys.argv[2]) if sys.argv[2] else None
load_checkpoint(bundled_base("tiny"), dtype)  # what PyTorch imports at first use is no weight
before = peak()
net = load_checkpoint(sys.argv[1], dtype)
held = sum(values.nbytes for values in net.state_dict().values())
print(json.dumps({"added": peak() - before, "held": held}))
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "checkpoint"
    shutil.rmtree(tmp_path / "checkpoint")


def _load(directory: Path, dtype: str) -> dict[str, Any]:
    # VmHWM and not ru_maxrss, which a process inherits from the one that started it.
    done = subprocess.run([sys.executable, "-c", PEAK, str(directory), dtype], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("dtype", ["", "float32"])
def test_a_small_checkpoint_takes_its_weights_and_one_tensor(directory: Path, dtype: str) -> None:
    write_repeated(directory, SMALL_CONFIG, shards=4)
    largest = max(tensor.size for tensor in read_headers(directory).values())
    found = _load(directory, dtype)
    assert found["held"] > 200 * MEBIBYTE
    # A buffer that is freed may leave its pages with the allocator: at most the one tensor on its way.
    assert found["added"] <= found["held"] + (2 * largest if dtype else 0) + 32 * MEBIBYTE


@pytest.mark.slow
def test_three_gigabytes_take_three_gigabytes(directory: Path) -> None:
    write_repeated(directory, LARGE_CONFIG, shards=4)
    found = _load(directory, "")
    assert found["held"] > 3e9
    assert found["added"] <= found["held"] + 64 * MEBIBYTE  # less than a shard, of which the four have 750 MB each
