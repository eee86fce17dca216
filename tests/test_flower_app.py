"""The repository is a Flower App that stock Flower builds and runs."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import pytest

from consortium import simulate
from coordinator.registry.registry import Registry
from coordinator.registry.states import RunState
from tests.consortium.command_line import ROOT, environment
from tests.consortium.small_notes import write_plan

PACKED = ("client", "coordinator", "model", "protocols")
SCRIPTS = Path(sys.executable).parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the repository keeps for the app, under a name that Flower accepts."""
    folder = tmp_path / "consortium"
    folder.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in (*PACKED, "consortium"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Flower's own folder is a new one, it tells nobody, and its commands are those of this interpreter's environment."""
    own = {"FLWR_HOME": str(tmp_path / "flower"), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    return {**environment(), **own, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}


def test_flower_builds_the_app_with_every_module_and_nothing_else(checkout: Path, env: Mapping[str, str], tmp_path: Path) -> None:
    done = subprocess.run([SCRIPTS / "flwr", "build"], cwd=checkout, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (bundle,) = checkout.glob("*.fab")
    with zipfile.ZipFile(bundle) as packed:
        packed.extractall(tmp_path / "app")
        found = {name for name in packed.namelist() if name.endswith(".py")}
    assert found == {path.relative_to(checkout).as_posix() for package in PACKED for path in (checkout / package).rglob("*.py")}
    code = "import client.client_app as c, coordinator.server_app as s; print(c.__file__, s.__file__)"
    alone = {**env, "PYTHONPATH": str(tmp_path / "app")}
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, env=alone, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(tmp_path / "app" / name) for name in ("client/client_app.py", "coordinator/server_app.py")]


def documented_run() -> str:
    """The commands of the guide that run a prepared folder."""
    (block,) = re.findall(r"^```sh\n(.*?flwr run.*?)^```", (ROOT / "docs" / "getting-started.md").read_text(), re.DOTALL | re.MULTILINE)
    return str(block)


@pytest.fixture
def superlink(env: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """A port on which a stock local SuperLink answers: the one that `flwr run` would start and leave behind."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    (tmp_path / "flower").mkdir()
    call = [
        str(SCRIPTS / "flower-superlink"),
        "--insecure",
        "--simulation",
        "--isolation",
        "subprocess",
        "--host",
        "127.0.0.1",
        "--port",
        port,
    ]
    own = {**env, "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1"}
    with (tmp_path / "superlink.log").open("w") as log, subprocess.Popen(call, env=own, stdout=log, stderr=log) as process:
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_for(port: str) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", int(port)), timeout=1).close()
        except OSError:
            assert time.monotonic() < end, f"nothing answers on port {port}"
            time.sleep(0.2)
        else:
            return


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Flower's simulation engine needs ray: pip install '.[ray]'")
def test_documented_flwr_run_finishes_a_prepared_folder(checkout: Path, superlink: str, env: Mapping[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    simulate(write_plan(tmp_path), out, rounds=1, baselines=False)
    script = documented_run().replace("ABSOLUTE/DIR", str(out)).replace("num-supernodes=N", "num-supernodes=3")
    own = {**env, "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": superlink}
    done = subprocess.run(["bash", "-ec", script], cwd=checkout, env=own, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    registry = Registry.open(str(out / "registry.db"), lambda: datetime.now(UTC), read_only=True)
    try:
        _, run = registry.runs()
        assert run.state is RunState.FINISHED, f"{run.reason}\n{done.stdout}"
        assert [one.institutions for one in registry.rounds(run.run)] == [3, 3]
    finally:
        registry.close()
