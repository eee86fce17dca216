"""The checks of the way to the coordinator, against a real registry service and a TLS port with its certificate."""

from __future__ import annotations

import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from client.checks.connection import check_fence, connection_findings
from client.checks.folder import folder_findings
from client.joining import fetch_certificate, join
from coordinator.authority import Authority
from tests.deployment.operator import Operator, now


@pytest.fixture
def member(operator: Operator, tmp_path: Path) -> Iterator[Path]:
    """The folder of an approved institution, while the operator serves."""
    folder, invitation = tmp_path / "amber", operator.invite("amber", tmp_path / "amber.invitation.toml")
    with operator.serving():
        join(folder, invitation, now, os.urandom)
        operator.approve("amber")
        fetch_certificate(folder, now)
        yield folder


def outcomes(folder: Path) -> dict[str, str]:
    return {finding.name: finding.outcome for finding in connection_findings(folder, now)}


def test_service_and_clock(operator: Operator, member: Path) -> None:
    assert outcomes(member) == {"service": "ok", "clock": "ok", "fence": "failed", "runtime port": "ok"}
    operator.ahead = timedelta(hours=1)
    assert outcomes(member)["clock"] == "failed"
    operator.registry.revoke("amber", "left")
    found = next(connection_findings(member, now))
    assert found.outcome == "failed" and "amber was revoked (left)" in found.sentence


def test_without_the_service_the_clock_is_skipped(operator: Operator, tmp_path: Path) -> None:
    folder, invitation = tmp_path / "amber", operator.invite("amber", tmp_path / "amber.invitation.toml")
    with operator.serving():
        join(folder, invitation, now, os.urandom)
    found = outcomes(folder)
    assert (found["service"], found["clock"]) == ("failed", "skipped")


def test_the_certificate_and_its_days(member: Path) -> None:
    found = {finding.name: finding for finding in folder_findings(member, now)}
    assert {finding.outcome for finding in found.values()} == {"ok"}
    assert list(found) == ["files", "secrets", "identity", "certificate"]
    late = {finding.name: finding for finding in folder_findings(member, lambda: now() + timedelta(days=10_000))}
    assert late["certificate"].outcome == "failed" and "was valid until" in late["certificate"].sentence
    (member / "tls.key").unlink()
    (member / "tls.key").write_bytes((member / "node.key").read_bytes())
    assert [finding.outcome for finding in folder_findings(member, now)][-1] == "failed"


@contextmanager
def tls_port(tls: Path) -> Iterator[int]:
    """A port that shakes hands with the operator's certificate, and refuses in HTTP."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls / "server.pem", tls / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_shake_hands, args=(listener, context))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # so that the thread waits no longer
            thread.join()


def _shake_hands(listener: socket.socket, context: ssl.SSLContext) -> None:
    with suppress(OSError):
        while True:
            with listener.accept()[0] as plain, suppress(OSError), context.wrap_socket(plain, server_side=True) as tls:
                tls.recv(1000)
                tls.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")


def test_a_fence_of_another_authority_is_refused(operator: Operator, member: Path, tmp_path: Path) -> None:
    Authority.create(tmp_path / "other", "other", [], now, os.urandom)
    with tls_port(operator.home.tls) as port:
        assert check_fence(f"127.0.0.1:{port}", member / "ca.pem").outcome == "ok"
        assert "not the coordinator's" in check_fence(f"127.0.0.1:{port}", tmp_path / "other" / "ca.pem").sentence


def test_the_registry_services_port_is_no_fence(operator: Operator, member: Path) -> None:
    finding = check_fence(f"127.0.0.1:{operator.port}", member / "ca.pem")
    assert finding.outcome == "failed" and "is not its fence" in finding.sentence and "registry service" in finding.remedy


def test_the_fences_port_is_no_registry_service(operator: Operator, member: Path) -> None:
    path = member / "connection.toml"
    with tls_port(operator.home.tls) as port:
        path.write_text(re.sub(r'(?m)^service = "[^"]*"', f'service = "127.0.0.1:{port}"', path.read_text()))
        found = next(connection_findings(member, now))
    assert found.outcome == "failed" and f"127.0.0.1:{port} is the coordinator's fence" in found.sentence and "service in" in found.remedy
