"""A plan so small that a simulated round takes a moment, and the command line as a user calls it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from consortium.demo.records import demo_records

ROOT = Path(__file__).parents[2]
PLAN = """
name = "small"
base = "tiny"
rounds = 2
[records]
prompt = "{note}\\ncode:"
target = " {code}"
[trainable]
lora_rank = 2
targets = ["attention"]
experts = "none"
[training]
local_steps = 1
batch_size = 2
[evaluation]
max_records = 4
every = 2
[release]
require = {}
[simulation]
source = "records.jsonl"
partition = { field = "site" }
institutions = 3
max_records = 8
"""
HOSTILE = ("client", "coordinator", "model", "protocols", "consortium")


def write_plan(folder: Path, *changes: tuple[str, str]) -> Path:
    """The plan and its records; each change is a text of the plan and what stands there instead."""
    plan = PLAN
    for old, new in changes:
        if old not in plan:
            raise ValueError(f"the small plan has no {old!r}")
        plan = plan.replace(old, new)
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in demo_records(0)))
    (folder / "plan.toml").write_text(plan)
    return folder / "plan.toml"


def write_csv(path: Path, count: int = 60) -> None:
    """A spreadsheet as a user has it: some notes of every hospital, without a column that divides them."""
    records = list(demo_records(0))
    sites = {record["site"] for record in records}
    rows = [record for site in sorted(sites) for record in islice((r for r in records if r["site"] == site), count // len(sites))]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["site", "note", "code"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def write_hostile_packages(folder: Path) -> None:
    """Modules and packages of our names that end the process which imports them."""
    for name in HOSTILE:
        (folder / f"{name}.py").write_text("raise SystemExit('hostile')")
    (folder / "model").mkdir()
    (folder / "model" / "__init__.py").write_text("raise SystemExit('hostile')")


def command(*arguments: str) -> list[str]:
    """The call of `consortium` with these arguments."""
    return [sys.executable, "-P", "-m", "consortium", *arguments]


def environment(*paths: Path, **changes: str) -> Mapping[str, str]:
    """This process's environment, with modules from `paths` alone."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, paths or (ROOT,))), **changes}


def consortium(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `consortium` in a folder, to its end."""
    call: Sequence[str] = command(*arguments)
    return subprocess.run(call, cwd=folder, env=env or environment(), capture_output=True, text=True, check=False)
