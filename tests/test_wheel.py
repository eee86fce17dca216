"""The wheel alone, offline: the demonstration, the commands that it names next, and a plan for a user's own spreadsheet."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from protocols.bundle import installed_bundle
from tests.consortium.command_line import ROOT, consortium, environment
from tests.consortium.small_notes import write_csv

OURS = ("client", "consortium", "coordinator", "model", "protocols")
QUICK = ("--rounds", "1", "--no-baselines")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content in an empty folder."""
    folder, unpacked = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("unpacked")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    built = subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], capture_output=True, text=True, check=False)
    if built.returncode and re.search(r"hatchling|No matching distribution|Could not find a version", built.stderr + built.stdout):
        pytest.skip("the wheel cannot be built here: hatchling is neither installed nor to be had from a package index")
    assert built.returncode == 0, built.stderr
    (packed,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", unpacked, packed], check=True)
    return unpacked


@pytest.fixture(scope="module")
def offline(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """An environment with the wheel's modules for ours, and without a network."""
    hook = tmp_path_factory.mktemp("hook")
    shutil.copy(ROOT / "tests" / "offline" / "sitecustomize.py", hook)
    return environment(wheel, hook, PYTHONSAFEPATH="1", REFUSED_CONNECTIONS=str(hook / "refused"), HOME=str(hook))


@pytest.fixture(autouse=True)
def no_connection(offline: Mapping[str, str]) -> Iterator[None]:
    """No test of this file may so much as try to leave the machine."""
    yield
    refused = Path(offline["REFUSED_CONNECTIONS"])
    assert not refused.exists(), refused.read_text()


def _run(folder: Path, env: Mapping[str, str], *arguments: str) -> str:
    done = consortium(folder, *arguments, env=env)
    assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}"
    return done.stdout


def test_the_wheel_is_what_runs(wheel: Path, offline: Mapping[str, str], tmp_path: Path) -> None:
    code = f"import {', '.join(OURS)}; print(*(one.__file__ for one in ({', '.join(OURS)})), sep='\\n')"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, env=offline, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(wheel / package / "__init__.py") for package in OURS]


def test_the_wheel_makes_the_bundle_of_the_checkout(offline: Mapping[str, str], tmp_path: Path) -> None:
    code = "from protocols.bundle import installed_bundle; print(installed_bundle().sha256)"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, env=offline, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == installed_bundle().sha256


def test_connections_are_refused_and_written_down(offline: Mapping[str, str], tmp_path: Path) -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    env = {**offline, "REFUSED_CONNECTIONS": str(tmp_path / "refused")}
    done = subprocess.run([sys.executable, "-P", "-c", code], env=env, capture_output=True, text=True, check=False)
    assert "no network in this test" in done.stderr
    assert (tmp_path / "refused").read_text() == "192.0.2.1\n"


def test_demonstration_and_every_command_that_it_names_next(offline: Mapping[str, str], tmp_path: Path) -> None:
    printed = _run(tmp_path, offline, "demo", *QUICK)
    commands = re.findall(r"^  consortium (.+)$", printed.partition("Next, try:")[2], re.MULTILINE)
    assert len(commands) >= 3
    write_csv(tmp_path / "YOUR.csv")
    for command in commands:
        _run(tmp_path, offline, *shlex.split(command))


def test_plan_for_a_spreadsheet_is_simulated(offline: Mapping[str, str], tmp_path: Path) -> None:
    write_csv(tmp_path / "my.csv")
    _run(tmp_path, offline, "new", "triage", "--records", "my.csv")
    printed = _run(tmp_path, offline, "simulate", "triage.toml", *QUICK)
    assert "all, federated" in printed
    assert (tmp_path / "consortium-triage" / "report.json").exists()
