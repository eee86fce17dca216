"""The service itself: what it refuses, what it does not tell, and that it ends what a revocation forbids."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from client.connection import connect
from client.errors import ServiceRefused, ServiceUnreachable, SettingsError
from client.joining import fetch_certificate, join
from coordinator.errors import AdmissionError
from coordinator.errors import SettingsError as OperatorSettingsError
from coordinator.service.served import Member, Resources, Served
from coordinator.service.server import MOST_EACH, start_server
from protocols.invitation import InvitationFile
from protocols.service import MAX_MESSAGE, RENEW, SERVICE, IssuedCertificate, Method, RenewRequest
from tests.deployment.operator import Operator, now

RECORD = "a record that no answer and no log may quote"
COUNTED = Method("Counted", RenewRequest, IssuedCertificate, streamed=True)


@pytest.fixture
def member(operator: Operator, tmp_path: Path) -> Path:
    """The folder of an approved institution; nobody serves it yet."""
    invitation: InvitationFile = operator.invite("amber", tmp_path / "amber.toml")
    with operator.serving():
        join(tmp_path / "amber", invitation, now, os.urandom)
        operator.approve("amber")
        fetch_certificate(tmp_path / "amber", now)
    return tmp_path / "amber"


def channel_of(folder: Path, port: int) -> grpc.Channel:
    """A channel of gRPC's own, without what the product's client adds."""
    ca, key, certificate = ((folder / name).read_bytes() for name in ("ca.pem", "tls.key", "tls.pem"))
    return grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(ca, key, certificate))


def breaks(resources: Resources, caller: Member, request: RenewRequest) -> IssuedCertificate:
    raise ValueError(RECORD)


def test_an_unknown_error_tells_nothing(operator: Operator, member: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    serving = operator.serving([Served(RENEW, (Member,), breaks)])
    with serving, connect(member, now) as service, pytest.raises(ServiceUnreachable) as raised:
        service.call(RENEW, RenewRequest(""))
    assert RECORD not in str(raised.value) + caplog.text
    assert "Renew failed with ValueError at " in caplog.text and "test_service.py" in caplog.text


def test_a_terminal_obeys_no_answer(operator: Operator, member: Path) -> None:
    def refuses(resources: Resources, caller: Member, request: RenewRequest) -> IssuedCertificate:
        raise AdmissionError("no\x1b[2J\x07 longer" + "x" * 1000)

    with operator.serving([Served(RENEW, (Member,), refuses)]), connect(member, now) as service, pytest.raises(ServiceRefused) as raised:
        service.call(RENEW, RenewRequest(""))
    assert str(raised.value).startswith("no[2J longer") and len(str(raised.value)) <= 500


def test_calls_that_are_no_calls(operator: Operator, member: Path) -> None:
    cases = [
        (b"no message", 5.0, grpc.StatusCode.INVALID_ARGUMENT),
        (RenewRequest("").to_bytes(), None, grpc.StatusCode.INVALID_ARGUMENT),
        (RenewRequest("").to_bytes(), 3600.0, grpc.StatusCode.INVALID_ARGUMENT),
        (RenewRequest("").to_bytes(), 5.0, grpc.StatusCode.FAILED_PRECONDITION),
        (bytes(MAX_MESSAGE + 1), 5.0, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ]
    with operator.serving(), channel_of(member, operator.port) as channel:
        for request, timeout, status in cases:
            with pytest.raises(grpc.RpcError) as raised:
                channel.unary_unary(RENEW.path)(request, timeout=timeout)
            assert raised.value.code() is status
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary(f"/{SERVICE}/Other")(b"", timeout=5)
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_nobody_is_answered_without_a_certificate(operator: Operator, member: Path) -> None:
    ca = grpc.ssl_channel_credentials((member / "ca.pem").read_bytes())
    with operator.serving(), grpc.secure_channel(f"127.0.0.1:{operator.port}", ca) as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(RENEW.path)(RenewRequest("").to_bytes(), timeout=5)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_revocation_ends_a_stream(operator: Operator, member: Path) -> None:
    def counted(resources: Resources, caller: Member, request: RenewRequest) -> Iterator[IssuedCertificate]:
        yield IssuedCertificate("1")
        resources.registry.revoke(caller.name, "found out")
        yield IssuedCertificate("2")

    received: list[str] = []
    with operator.serving([Served(COUNTED, (Member,), counted)]), connect(member, now) as service:
        with pytest.raises(ServiceRefused, match="found out"):
            received.extend(one.certificate for one in service.stream(COUNTED, RenewRequest("")))
        with pytest.raises(ServiceRefused, match="found out"):
            received.extend(one.certificate for one in service.stream(COUNTED, RenewRequest("")))
    assert "2" not in received


def test_the_health_of_the_service(operator: Operator, member: Path) -> None:
    with operator.serving(), channel_of(member, operator.port) as channel:
        answer = HealthStub(channel).Check(HealthCheckRequest(service=SERVICE), timeout=5)
    assert answer.status == HealthCheckResponse.SERVING


def test_a_port_is_listened_on_once(operator: Operator) -> None:
    with operator.serving(), pytest.raises(OperatorSettingsError, match="cannot listen"):
        start_server(operator.resources, f"127.0.0.1:{operator.port}")


def test_a_connection_needs_its_files(operator: Operator, member: Path) -> None:
    (member / "connection.toml").write_text('coordinator = "the-operator"\nfence = "f:1"\nservise = "s:1"\n')
    with pytest.raises(SettingsError, match="servise is not a known key; did you mean service"), connect(member, now):
        pass
    (member / "connection.toml").unlink()
    with pytest.raises(SettingsError, match="client init"), connect(member, now):
        pass


def test_who_reads_slowly_holds_a_few_threads_and_no_more(operator: Operator, member: Path) -> None:
    """To keep everybody else from the service: streams that nobody reads, as many as there are threads."""

    def endless(resources: Resources, caller: Member, request: RenewRequest) -> Iterator[IssuedCertificate]:
        while True:
            yield IssuedCertificate("x" * 100_000)

    request = RenewRequest("").to_bytes()
    with operator.serving([Served(COUNTED, (Member,), endless)]), channel_of(member, operator.port) as channel:
        stream = channel.unary_stream(COUNTED.path)
        held = [stream(request, timeout=30) for _ in range(MOST_EACH)]
        for one in held:
            next(one)
        with pytest.raises(grpc.RpcError) as raised:
            next(stream(request, timeout=5))
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        held.pop().cancel()
        assert any(begins(stream(request, timeout=5)) for _ in range(50)), "a call that ended leaves its place"


def begins(answers: Iterator[bytes]) -> bool:
    try:
        return bool(next(answers))
    except grpc.RpcError:
        time.sleep(0.1)
        return False
