"""The command line as a user calls it: in a process of its own, in any folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOSTILE = ("client", "coordinator", "model", "protocols", "consortium")


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


def consortium(folder: Path, *arguments: str, env: Mapping[str, str] | None = None, given: str = "") -> subprocess.CompletedProcess[str]:
    """Runs `consortium` in a folder, to its end, with `given` on its standard input."""
    call: Sequence[str] = command(*arguments)
    return subprocess.run(call, cwd=folder, env=env or environment(), input=given, capture_output=True, text=True, check=False)
