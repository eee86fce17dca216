"""The way to the coordinator: its registry service with this institution's certificate, its fence, both clocks, and the local port."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from client.checks.finding import Finding, checked, failed, ok
from client.connection import ConnectionSettings, connect, load_connection
from client.errors import ServiceUnreachable
from client.machine import port_is_free
from protocols.errors import ConsortiumError
from protocols.service import NOW, NowRequest

# The fence takes a SuperNode's signature that is up to 305 s old, or 5 s from the future.
MOST_BEHIND, MOST_AHEAD = timedelta(seconds=300), timedelta(seconds=5)
SECONDS = 10.0


def check_clock(own: datetime, theirs: datetime) -> Finding:
    """Whether a message that is signed here counts as fresh there."""
    apart = own - theirs
    seconds, side = round(abs(apart.total_seconds())), "ahead of" if apart > timedelta() else "behind"
    if not -MOST_BEHIND <= apart <= MOST_AHEAD:
        sentence = f"this machine is {seconds} s {side} the coordinator, which refuses what is signed over 300 s ago or 5 s ahead"
        return failed("clock", sentence, "let this machine set its clock by NTP; if it does, tell the operator")
    return ok("clock", f"{seconds} s {side} the coordinator's")


def check_fence(address: str, authority: Path) -> Finding:
    """Whether the address answers HTTPS with a certificate of the coordinator's authority; its registry service answers no HTTP."""
    bracketed, _, port = address.rpartition(":")
    host = bracketed.strip("[]")
    name, remedy = "fence", "check fence in connection.toml, and whether this network lets TLS out to it without looking into it"
    try:
        context = ssl.create_default_context(cafile=authority)
        with socket.create_connection((host, int(port)), SECONDS) as plain, context.wrap_socket(plain, server_hostname=host) as tls:
            if _answers_http(tls, host):
                return ok(name, f"{address} answers as the coordinator")
    except ssl.SSLCertVerificationError as error:
        return failed(name, f"{address} shows a certificate that is not the coordinator's ({error.verify_message})", remedy)
    except (OSError, ValueError) as error:
        return failed(name, f"{address} cannot be reached ({error})", remedy)
    remedy = "check fence in connection.toml: it may name the port of the registry service, which is another one"
    return failed(name, f"{address} has the coordinator's certificate and is not its fence", remedy)


def _answers_http(tls: ssl.SSLSocket, host: str) -> bool:
    """Whether a request that nobody has to grant is answered in HTTP at all."""
    try:
        tls.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return tls.recv(5) == b"HTTP/"
    except OSError:
        return False


def check_port(port: int, free: bool) -> Finding:
    """Whether SuperNode and node can meet on this machine."""
    if free:
        return ok("runtime port", f"{port} is free on this machine")
    remedy = "fine while `consortium client run` is running; else set another runtime_port in connection.toml"
    return Finding("runtime port", "warning", f"{port} is in use on this machine", remedy)


def operator_time(folder: Path, clock: Callable[[], datetime]) -> datetime:
    """The operator's clock, asked with this institution's certificate.

    Raises:
        ConsortiumError: the service refuses, cannot be reached, or says no time.
    """
    with connect(folder, clock) as service:
        answer = service.call(NOW, NowRequest(), SECONDS)
    with suppress(ValueError):
        time = datetime.fromisoformat(answer.time)
        if time.tzinfo is not None:
            return time
    raise ServiceUnreachable("the registry service says no time; both sides must run the same version")


def clock_warning(folder: Path, clock: Callable[[], datetime]) -> str:
    """One sentence where this machine's clock keeps it from taking part; empty where it does not.

    Raises:
        ConsortiumError: as `operator_time`.
    """
    theirs = operator_time(folder, clock)
    found = check_clock(clock(), theirs)
    return f"{found.sentence}: {found.remedy}" if found.outcome == "failed" else ""


def connection_findings(folder: Path, clock: Callable[[], datetime]) -> Iterator[Finding]:
    """All of this group; the clocks are compared where the service answers."""
    times: list[datetime] = []

    def answered(time: datetime) -> Finding:
        times.append(time)
        return ok("service", "the registry service answers and knows this institution's certificate")

    service = checked("service", lambda: operator_time(folder, clock), answered)
    yield service if times else _mistaken(folder, service)
    yield check_clock(clock(), times[0]) if times else Finding("clock", "skipped", "the registry service does not answer")
    if (folder / "connection.toml").is_file():
        yield checked("fence", lambda: load_connection(folder), lambda settings: check_fence(settings.fence, folder / "ca.pem"))
        yield checked("runtime port", lambda: load_connection(folder), _port)


def _mistaken(folder: Path, service: Finding) -> Finding:
    """What is wrong with the service where its address is the fence's, and otherwise what was found."""
    try:
        address = load_connection(folder).service
    except (ConsortiumError, OSError):
        return service
    if check_fence(address, folder / "ca.pem").outcome != "ok":
        return service
    remedy = "check service in connection.toml: it names the port of the fence, and the registry service has another one"
    return failed("service", f"{address} is the coordinator's fence and not its registry service", remedy)


def _port(settings: ConnectionSettings) -> Finding:
    return check_port(settings.runtime_port, port_is_free(settings.runtime_port))
