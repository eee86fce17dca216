"""Where a network has a proxy, what both ends of are on one machine does not go there."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from flwr.proto.runtime_pb2 import AcquireTaskRequest

import client.node_process
import coordinator.run_process
from protocols.flower import runtime_client
from protocols.proxies import without_proxy
from tests.federation.attacks.weakened import weakened

Main = Callable[[list[str]], int]


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """What came to the proxy that the environment names."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def listen() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = proxy.accept()
                    seen.append(connection.recv(4096))
                    connection.close()

        threading.Thread(target=listen, daemon=True).start()
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "")
        ended = signal.getsignal(signal.SIGTERM)
        yield seen
        signal.signal(signal.SIGTERM, ended)
        proxy.shutdown(socket.SHUT_RDWR)


def ask_supernode(port: int) -> None:
    with runtime_client(f"127.0.0.1:{port}", "SuperExec", roots=None, secret=b"s" * 32) as runtime, suppress(httpx.HTTPError):
        runtime.AcquireTask(AcquireTaskRequest())


@pytest.mark.parametrize(
    ("main", "arguments"),
    [(client.node_process.main, ["--institution"]), (coordinator.run_process.main, ["--run", "r1", "--home"])],
    ids=["node", "run"],
)
def test_a_proxy_is_sent_nothing_that_stays_on_this_machine(
    received: list[bytes], tmp_path: Path, free_port: int, main: Main, arguments: list[str]
) -> None:
    """To read what node and SuperNode say to each other: an environment names a proxy, and between them there is no TLS."""
    with weakened("client.node_process.without_proxy", "coordinator.run_process.without_proxy", by=lambda _: {}):
        assert main([*arguments, str(tmp_path)]) == 1
        ask_supernode(free_port)
    assert received.pop().startswith(b"POST http://127.0.0.1:")
    assert main([*arguments, str(tmp_path)]) == 1
    ask_supernode(free_port)
    assert not received


def test_what_was_exempt_stays_so() -> None:
    assert without_proxy({"no_proxy": "records.internal"})["NO_PROXY"] == "records.internal,127.0.0.1,localhost"
