"""What a health check says of an operator's side that does not serve; `test_compose.py` asks one that does."""

from __future__ import annotations

import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.operator_home import make_operator_home
from coordinator.serve.health import problem_of
from coordinator.settings import CoordinatorSettings, ServeSettings
from tests.deployment.processes import free_port


def test_each_part_that_is_missing_is_named(tmp_path: Path) -> None:
    ports = {f"{name}_port": free_port() for name in ("fence", "service", "superlink")}
    settings = CoordinatorSettings(serve=ServeSettings(listen="127.0.0.1", **ports))
    home = make_operator_home(tmp_path / "operator", settings, lambda: datetime.now(UTC), os.urandom)
    assert (problem_of(home) or "").startswith("nobody serves")
    (home.folder / "heartbeat").touch()
    assert (problem_of(home) or "").startswith("the fence does not answer")
    with socket.create_server(("127.0.0.1", ports["fence_port"])) as mute:  # somebody who speaks no TLS
        mute.settimeout(0.0)
        assert (problem_of(home) or "").startswith("the fence does not answer")
    os.utime(home.folder / "heartbeat", (time.time() - 120.0,) * 2)
    done = CliRunner().invoke(app, ["health", "--home", str(home.folder)])
    assert done.exit_code == 1 and "nobody serves" in done.output
    done = CliRunner().invoke(app, ["health", "--home", str(home.folder), "--json"])
    assert done.exit_code == 1 and json.loads(done.stdout)["problem"].startswith("nobody serves")
    done = CliRunner().invoke(app, ["health", "--home", str(tmp_path / "none"), "--json"])
    assert done.exit_code == 1 and "no operator's home" in json.loads(done.stdout)["problem"]
