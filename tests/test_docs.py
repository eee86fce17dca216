"""What the documentation and the examples say holds."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from consortium.demo.records import write_demo_records
from consortium.plan_reference import plan_reference
from protocols.plan import load_plan

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```[a-z]*\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
TOO_LONG = {"consortium simulate triage.toml": " --rounds 1 --no-baselines"}


def test_the_table_of_keys_is_the_one_that_the_plan_gives() -> None:
    assert (ROOT / "docs" / "plan.md").read_text(encoding="utf-8") == plan_reference()


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda path: path.stem)
def test_every_example_is_a_valid_plan_for_simulate(path: Path) -> None:
    assert load_plan(path).simulation is not None


def test_make_has_every_target_that_the_readme_names() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = [command.split()[1] for command in COMMANDS if command.startswith("make ")]
    assert named
    assert set(named) <= set(targets)


@pytest.mark.slow
def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    demo = tmp_path / "consortium-demo"
    demo.mkdir()
    shutil.copy(ROOT / "consortium" / "demo" / "plan.toml", demo)
    write_demo_records(demo / "records.jsonl", 0)
    write_demo_records(tmp_path / "my.jsonl", 0)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    commands = [command for command in COMMANDS if command.startswith("consortium ")]
    assert commands
    for command in commands:
        arguments = shlex.split(command.replace("my.csv", "my.jsonl") + TOO_LONG.get(command, ""))[1:]
        call = [sys.executable, "-P", "-m", "consortium", *arguments]
        done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
