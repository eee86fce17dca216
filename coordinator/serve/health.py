"""Whether an operator's side works, asked from beside it on the same machine: for containers' and monitors' health checks."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from pathlib import Path

from coordinator.operator_home import OperatorHome
from coordinator.serve.places import Places

STALE_SECONDS = 30.0  # the loop turns twice a second, and stopping a process takes as long as stop_seconds
_ANSWER_SECONDS = 5.0


def problem_of(home: OperatorHome) -> str | None:
    """What does not work, in a sentence; None where all of it does."""
    settings, places = home.settings.serve, Places(home)
    if _age_of(places.heartbeat) > STALE_SECONDS + settings.stop_seconds:
        return f"nobody serves {home.folder}, or its loop hangs; see its log, and start `consortium coordinator serve`"
    trust = ssl.create_default_context(cafile=home.tls / "ca.pem")
    here = "127.0.0.1" if settings.listen == "0.0.0.0" else settings.listen  # noqa: S104 (compared, not listened on)
    for what, host, port in (
        ("the fence", here, settings.fence_port),
        ("the registry service", here, settings.service_port),
    ):
        if not _speaks_tls(trust, host, port, settings.hosts[0]):
            return f"{what} does not answer at {host}:{port}; see the log of `consortium coordinator serve`"
    if not _is_healthy(trust, settings.superlink_port):
        return f"the SuperLink does not answer at 127.0.0.1:{settings.superlink_port}; see {places.log('superlink')}"
    return None


def _speaks_tls(trust: ssl.SSLContext, host: str, port: int, name: str) -> bool:
    """Whether somebody there shows a certificate of the operator's authority for this name."""
    try:
        with socket.create_connection((host, port), _ANSWER_SECONDS) as plain, trust.wrap_socket(plain, server_hostname=name):
            return True
    except OSError:
        return False


def _is_healthy(trust: ssl.SSLContext, port: int) -> bool:
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=trust, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _age_of(path: Path) -> float:
    """Seconds since a file was touched; endless if it never was."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")
