"""Python loads this at its start where it is on the path: every connection that leaves the machine fails, and is written down."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

LOCAL = ("127.0.0.1", "::1", "localhost", "", None)
real_connect, real_connect_ex, real_getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo


def _refuse_remote(host: Any) -> None:
    if host not in LOCAL:
        with Path(os.environ["REFUSED_CONNECTIONS"]).open("a") as log:
            log.write(f"{host}\n")
        raise OSError(f"no network in this test, and {host} was asked for")


def _connect(self: socket.socket, address: Any) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6):
        _refuse_remote(address[0])
    real_connect(self, address)


def _connect_ex(self: socket.socket, address: Any) -> int:
    if self.family in (socket.AF_INET, socket.AF_INET6):
        _refuse_remote(address[0])
    return real_connect_ex(self, address)


def _getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
    _refuse_remote(host)
    return real_getaddrinfo(host, *arguments, **options)


socket.socket.connect = _connect  # type: ignore[method-assign, assignment]
socket.socket.connect_ex = _connect_ex  # type: ignore[method-assign, assignment]
socket.getaddrinfo = _getaddrinfo
