"""A deployment that stays up for many runs, each of whose processes can be found and killed while a run says where it stands."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from consortium.demo.deployment import write_deployment
from tests.deployment.consortium import Deployment, stand_up
from tests.deployment.seeded_client import MODULE

RECORDS = 24
KINDS = {
    "run": b"coordinator.run_process",
    "superlink": b"flower_superlink",
    "supernode": b"client.flower_node",
    "node": b"seeded_client\0node",
}

PLAN = """\
name = "{name}"
base = "tiny"
rounds = {rounds}
seed = {seed}

[records]
prompt = "note: {{note}}\\ncode:"
target = " {{code}}"
max_tokens = 64

[trainable]
lora_rank = 2
lora_alpha = 4
targets = ["attention"]
experts = "none"
mtp = false

[training]
local_steps = 8
batch_size = 2
learning_rate = 1e-3

[participation]
deadline = "{deadline}"
quorum = {quorum}
retries = 2

[evaluation]
metric = "bits_per_byte"
"""


class Killable(Deployment):
    """Institutions' nodes round by a seed; `killed` counts."""

    def take_part(self, *names: str, poll: str = "") -> None:
        for name in names or self.names:
            self.start_line(name, [sys.executable, "-P", "-m", MODULE, "run", name])

    def submit(self, name: str, seed: int = 0, quorum: int = 4, deadline: str = "90s", rounds: int = 2) -> str:
        """The id of a run of the small plan."""
        path = self.folder / f"{name}.toml"
        path.write_text(PLAN.format(name=name, seed=seed, quorum=quorum, deadline=deadline, rounds=rounds))
        run: str = json.loads(self.call("coordinator", "submit", path, "--home", "operator", "--json", "--no-wait"))["run"]
        return run

    def pid(self, kind: str, of: str = "serve") -> int:
        """The process of a kind that belongs to `serve` or to an institution; waits for one that is starting."""
        end = time.monotonic() + 90
        while time.monotonic() < end:
            for pid in _children(self.running[of].pid):
                if KINDS[kind] in _command(pid):
                    return pid
            time.sleep(0.02)
        raise AssertionError(f"no {kind} of {of}\n{self.said()}")

    def kill(self, kind: str, of: str = "serve") -> None:
        """`kill -9`; the whole coordinator is started again, everything else by who watches it."""
        if kind == "serve":
            self.end("serve", signal.SIGKILL)
            self.serve()
        else:
            os.kill(self.pid(kind, of), signal.SIGKILL)

    def log(self, run: str) -> str:
        path = self.operator / "logs" / f"{run}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_for_line(self, run: str, pattern: str, seconds: float = 240.0) -> None:
        """Until the run's log says so; fails with what all processes said."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.log(run)):
            assert time.monotonic() < end, f"{pattern!r} was not said of {run}\n{self.said()}"
            time.sleep(0.01)

    def finish(self, run: str, seconds: float = 240.0) -> list[dict[str, Any]]:
        """The run's rounds once it is over, with registry and ledgers verified."""
        self.wait_for_line(run, r"is finished|failed:", seconds)
        found = self.document("coordinator", "rounds", run, "--registry", "operator/registry.db")
        assert found["state"] == "finished", f"{found}\n{self.said()}"
        ledgers = [("client", "ledger", "verify", "--institution", name) for name in self.names]
        self.call_each([("coordinator", "verify", "--registry", "operator/registry.db"), *ledgers])
        rounds: list[dict[str, Any]] = found["rounds"]
        return rounds


def stand_up_killable(folder: Path, institutions: int = 4) -> Killable:
    """Institutions that take part, with a few records each."""
    hospitals = write_deployment(folder, seed=0)
    names = tuple(f"{hospitals[number % len(hospitals)]}-{number}" for number in range(institutions))
    made = stand_up(Killable(folder, names))
    for number, name in enumerate(names):
        lines = (folder / f"{hospitals[number % len(hospitals)]}.jsonl").read_text().splitlines(keepends=True)
        (folder / name / "records.jsonl").write_text("".join(lines[number * RECORDS :][:RECORDS]))
    made.take_part()
    return made


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
