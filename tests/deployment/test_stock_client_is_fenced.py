"""Flower's own command line and client against a stock SuperLink, once directly and once through the fence."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.supernode.fleet_http_connection import http_request_response

from coordinator.fence.serving import Fence
from tests.coordinator.fence.loopback import Node, write_certificate

pytestmark = pytest.mark.slow

COMMANDS = Path(sys.executable).parent
CALLS = ("list there", "supernode list there", "supernode register FOLDER/other.pub there", "run FOLDER/rogue there")
APP = """
[project]
name = "rogue"
version = "1.0.0"
description = "a run that nobody asked for"
license = "Apache-2.0"
dependencies = ["flwr>=1.41.0"]
[tool.flwr.app]
publisher = "rogue"
[tool.flwr.app.components]
serverapp = "rogue.app:server"
clientapp = "rogue.app:client"
"""
CODE = "from flwr.clientapp import ClientApp\nfrom flwr.serverapp import ServerApp\nserver = ServerApp()\nclient = ClientApp()\n"


@dataclass(frozen=True)
class Ends:
    """The SuperLink's port, the fence's, and what the fence admits."""

    folder: Path
    superlink: int
    fence: int
    certificate: Path
    admitted: set[str]

    def flwr(self, command: str, port: int) -> subprocess.CompletedProcess[str]:
        """Runs the stock command line with one server as its only connection; FOLDER is filled in."""
        home = self.folder / f"home{port}"
        home.mkdir(exist_ok=True)
        address = f'address = "127.0.0.1:{port}"\nroot-certificates = "{self.certificate}"\ninsecure = false\n'
        (home / "config.toml").write_text(f'[superlink]\ndefault = "there"\n[superlink.there]\n{address}')
        words = command.replace("FOLDER", str(self.folder)).split()
        run = [str(COMMANDS / "flwr"), *words, "--format", "json"]
        return subprocess.run(run, env=_environment(home), cwd=self.folder, capture_output=True, text=True, check=False, timeout=120)


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ends]:
    folder = tmp_path_factory.mktemp("fenced")
    certificate, key = write_certificate(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    admitted: set[str] = set()
    address = f"https://127.0.0.1:{port}"
    superlink = _start_superlink(folder, port, certificate, key)
    try:
        _wait_for(port)
        files = {"certificate": certificate, "key": key, "ca": certificate}
        with Fence("127.0.0.1", 0, superlink=address, is_admitted=admitted.__contains__, **files) as fence:  # type: ignore[arg-type]
            yield Ends(folder, port, fence.port, certificate, admitted)
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(superlink.pid, number)
                superlink.wait(10)


def _start_superlink(folder: Path, port: int, certificate: Path, key: Path) -> subprocess.Popen[bytes]:
    secret = folder / "secret"
    secret.write_text("ab" * 32)
    tls = ["--ssl-ca-certfile", certificate, "--ssl-certfile", certificate, "--ssl-keyfile", key]
    process = ["--isolation", "process", "--superexec-auth-secret-file", secret, "--disable-runtime-dependency-installation"]
    address = ["--host", "127.0.0.1", "--port", str(port), "--database", folder / "state.db", "--enable-supernode-auth"]
    command = [str(word) for word in (COMMANDS / "flower-superlink", *address, *tls, *process)]
    with (folder / "superlink.log").open("wb") as log:
        return subprocess.Popen(command, env=_environment(folder / "home"), stdout=log, stderr=log, start_new_session=True)


def _wait_for(port: int) -> None:
    for _ in range(600):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    pytest.skip("flower-superlink did not listen within a minute")


@pytest.fixture(scope="module")
def node(ends: Ends) -> Node:
    """A node whose key the operator has registered at the SuperLink."""
    node = _written(ends, "node.pub")
    answer = json.loads(ends.flwr("supernode register FOLDER/node.pub there", ends.superlink).stdout)
    assert answer["success"]
    return node


def _written(ends: Ends, name: str) -> Node:
    node = Node()
    (ends.folder / name).write_text(node.public)
    return node


@pytest.fixture(scope="module")
def rogue(ends: Ends) -> Path:
    app = ends.folder / "rogue"
    (app / "rogue").mkdir(parents=True)
    (app / "pyproject.toml").write_text(APP)
    (app / "rogue" / "app.py").write_text(CODE)
    (app / "rogue" / "__init__.py").touch()
    return app


@pytest.mark.parametrize("command", CALLS)
def test_command_of_flower_works_at_the_superlink_and_not_at_the_fence(ends: Ends, rogue: Path, command: str) -> None:
    _written(ends, "other.pub")
    fenced, direct = ends.flwr(command, ends.fence), ends.flwr(command, ends.superlink)
    assert fenced.returncode != 0 or not json.loads(fenced.stdout)["success"]
    assert json.loads(direct.stdout)["success"], direct.stderr


def test_client_of_flower_works_through_the_fence_as_long_as_it_is_admitted(ends: Ends, node: Node) -> None:
    keys: tuple[ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey] = (node.private, node.private.public_key())
    root = ends.certificate.read_bytes()
    ends.admitted.add(node.public)
    with http_request_response(f"127.0.0.1:{ends.fence}", False, root, keys, max_retries=0) as (node_id, receive, *_):
        assert node_id
        assert receive() is None
        ends.admitted.clear()
        with pytest.raises(httpx.HTTPStatusError, match="503"):
            receive()
