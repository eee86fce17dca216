"""The README's second half, as it is written there: from nothing to a released model that every institution verified."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.consortium.command_line import environment
from tests.deployment.processes import free_port

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
MOST_SECONDS = 240.0
INSTITUTIONS = ("harbour", "hillside", "meadow", "riverside")


def _script() -> str:
    """The README's one shell block, on ports that are free here."""
    blocks: list[str] = re.findall(r"^```shell\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    ports = " ".join(f"--{name}-port {free_port()}" for name in ("fence", "service", "superlink"))
    (block,) = blocks
    return "set -e\n" + block.replace("--host localhost", f"--host localhost {ports}").replace("port=9446", f"port={free_port()}")


def test_what_the_readme_says_leads_from_nothing_to_a_verified_model(tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "consortium").write_text(f'#!/bin/sh\nexec {sys.executable} -P -m consortium "$@"\n')
    (commands / "consortium").chmod(0o755)
    around = {**environment(), "PATH": f"{commands}:{os.environ['PATH']}"}
    begun = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", _script()], cwd=tmp_path, env=around, capture_output=True, text=True, timeout=2 * MOST_SECONDS, check=False
    )
    seconds, hospitals = time.monotonic() - begun, tmp_path / "hospitals"
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{_logs(hospitals)}"
    for name in INSTITUTIONS:
        assert f"{name}: accepted" in done.stdout
        (released,) = (hospitals / name / "released" / "triage").iterdir()
        assert json.loads((released / "manifest.json").read_text())["name"] == "triage"
        assert _ended(hospitals / name)
    assert seconds < MOST_SECONDS, f"{seconds:.0f} s"


def _ended(folder: Path) -> bool:
    """No process of ours names the folder any more."""
    return not any(str(folder).encode() in path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())


def _logs(folder: Path) -> str:
    paths = [*sorted(folder.glob("*.log")), *sorted(folder.glob("*/logs/*.log"))]
    return "\n".join(f"== {path.relative_to(folder)}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:]) for path in paths)
