"""A free port and an operator on it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment.operator import Operator, make_operator


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def operator(tmp_path: Path, free_port: int) -> Iterator[Operator]:
    made = make_operator(tmp_path / "operator", free_port)
    yield made
    made.registry.close()
