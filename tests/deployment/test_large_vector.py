"""A large vector through SuperLink, fence, run, SuperNodes and nodes: nothing but what a training gives a node grows with its size.

It consists of tensors of 2 MB, as a real update of this size consists of many: one tensor at a time is what everybody holds.
CONSORTIUM_LARGE_VECTOR_MB says how large it is, in MB; 1024 takes some minutes, and 12 GB of disk.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from model.config import ModelConfig
from tests.deployment.consortium import Deployment, stand_up
from tests.deployment.processes import running

pytestmark = pytest.mark.slow
MEGABYTE = 2**20
NAMES = ("ada", "bea", "cyd")  # c = 1 needs three, and all of them
RANK = 1024
HIDDEN = 512
LAYER = 6 * 4 * RANK * HIDDEN  # bytes of float32: two factors for each of three projections
LAYERS = -(-int(os.environ.get("CONSORTIUM_LARGE_VECTOR_MB", "1024")) * MEGABYTE // LAYER)
VECTOR = LAYERS * LAYER
ROOM = 600 * MEGABYTE
BASE = "ab" * 32
PLAN = f"""\
name = "large"
base = {{ name = "large", sha256 = "{BASE}" }}
rounds = 1
[records]
prompt = "{{note}}"
target = "{{code}}"
max_tokens = 16
[trainable]
lora_rank = {RANK}
targets = ["dense_mlp"]
experts = "none"
[training]
local_steps = 1
batch_size = 1
learning_rate = 1e-3
[aggregation]
rule = "fedavg"
[participation]
deadline = "20m"
[evaluation]
choices = ["A", "B"]
"""


def write_base(folder: Path) -> Path:
    """A configuration with as many dense layers as the vector needs."""
    base = folder / "base"
    base.mkdir()
    config = ModelConfig(
        vocab_size=16, hidden_size=HIDDEN, intermediate_size=HIDDEN, moe_intermediate_size=6, num_hidden_layers=LAYERS,
        first_k_dense_replace=LAYERS, num_attention_heads=2, n_routed_experts=4, num_experts_per_tok=2, kv_lora_rank=4,
        qk_nope_head_dim=4, qk_rope_head_dim=2, v_head_dim=4,
    )  # fmt: skip
    (base / "config.json").write_text(json.dumps(config.to_dict()))
    return base


class Memory:
    """Peaks of resident memory by kind of process, of everybody whose command line names the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self.now: dict[str, int] = {}
        self.peaks: dict[str, int] = defaultdict(int)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Looks ten times a second while the block runs."""
        done = threading.Event()
        thread = threading.Thread(target=lambda: self._watch(done))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _watch(self, done: threading.Event) -> None:
        while not done.wait(0.1):
            self.look()

    def look(self) -> None:
        """Adds what is so now to the peaks."""
        self.now = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (kind := self._kind(process)) is not None:
                    self.now[kind] = max(self.now.get(kind, 0), _resident(process))
        for kind, size in self.now.items():
            self.peaks[kind] = max(self.peaks[kind], size)

    def _kind(self, process: Path) -> str | None:
        line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        inside = self._folder in line or self._folder in str((process / "cwd").readlink())
        kinds = {"flower_superlink": "SuperLink", "coordinator serve": "fence", "client.flower_node": "SuperNode"}
        kinds |= {"coordinator.run_process": "run", "deployment.large_node": "node"}
        return next((kind for part, kind in kinds.items() if part in line), None) if inside else None


def _resident(process: Path) -> int:
    """Bytes that are the process's own; pages of files are the system's to take back."""
    found = re.search(r"RssAnon:\s+(\d+)", (process / "status").read_text())
    return 1024 * int(found[1]) if found else 0


@contextmanager
def taking_part(made: Deployment, base: Path) -> Iterator[None]:
    """SuperNodes as they are documented, and nodes with a training of one number."""
    for name in NAMES:
        made.start(name, "client", "supernode", "--institution", name, "--fast-poll")
    with ExitStack() as stack:
        for name in NAMES:
            line = [sys.executable, "-P", "-m", "tests.deployment.large_node", str(made.folder / name), str(base)]
            stack.enter_context(running(line, made.folder / f"{name}-node.log", made.environment))
        yield


@pytest.mark.skipif(shutil.disk_usage("/tmp").free < 12 * VECTOR, reason=f"needs {12 * VECTOR // MEGABYTE} MB of free disk")  # noqa: S108
def test_large_vector_passes_in_little_memory(tmp_path: Path) -> None:
    made, base = stand_up(Deployment(tmp_path, NAMES)), write_base(tmp_path)
    with (made.operator / "coordinator.toml").open("a") as file:
        file.write(f'large = "{base}"\n')
    memory = Memory(tmp_path)
    try:
        with taking_part(made, base):
            time.sleep(5)
            memory.look()
            idle = dict(memory.now)
            (tmp_path / "plan.toml").write_text(PLAN)
            with memory.watched():
                run = made.document("coordinator", "submit", "plan.toml", "--home", "operator")["run"]
                ended = made.wait_for(run, lambda found: bool(found["ended_at"]), 1500, pause=10.0)
        assert ended["state"] == "finished", made.said()
        grown = {kind: peak - idle.get(kind, 0) for kind, peak in memory.peaks.items()}
        print({kind: f"{size / MEGABYTE:.0f} MB" for kind, size in grown.items()}, _objects_left(made), os.getloadavg())
        assert grown.keys() == {"SuperLink", "fence", "run", "SuperNode", "node"}
        assert grown.pop("node") < VECTOR + ROOM
        assert all(size < ROOM for size in grown.values()), grown
    finally:
        made.close()


def _objects_left(made: Deployment) -> int:
    """Objects of messages that Flower's database still holds."""
    with closing(sqlite3.connect(made.operator / "superlink" / "state.db")) as database:
        return int(database.execute("SELECT count(*) FROM objects").fetchone()[0])
