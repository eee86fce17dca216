"""`connection.toml` and the channel to the registry service: mutual TLS, a deadline on every call, errors in one sentence."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import grpc
from cryptography import x509
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from client.errors import CertificateExpired, ServiceRefused, ServiceUnreachable, SettingsError
from protocols.commented import commented
from protocols.files import write_file
from protocols.service import MAX_MESSAGE, SERVICE, Answered, Asked, Method
from protocols.validation import first_problem

MOST_SAID = 500  # characters of another machine's sentence
SECONDS = 30.0  # of one call, its repetitions included
_RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": SERVICE}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ]
}
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.service_config", json.dumps(_RETRIES)),
    ("grpc.enable_http_proxy", 0),
)
_SPOKEN = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)


RUNTIME_PORT = 9446


class ConnectionSettings(BaseModel):
    """Where the coordinator is; nothing here is secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    coordinator: str = Field(min_length=1, description="name of the coordinator")
    fence: str = Field(min_length=1, description="host:port to which the SuperNode connects")
    service: str = Field(min_length=1, description="host:port of the registry service")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of figures for Prometheus, on this machine alone; 0 for none")
    runtime_port: int = Field(RUNTIME_PORT, ge=1, le=65535, description="port on this machine where node and SuperNode meet")


def load_connection(folder: Path) -> ConnectionSettings:
    """Reads `connection.toml` of an institution's folder.

    Raises:
        SettingsError: it is missing or wrong.
    """
    path = folder / "connection.toml"
    try:
        return ConnectionSettings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise SettingsError(f"{path}: {first_problem(error, ConnectionSettings)}") from None
    except OSError:
        raise SettingsError(f"{path} cannot be read; `consortium client init --invite FILE` writes it") from None
    except ValueError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from None


def write_connection(folder: Path, settings: ConnectionSettings) -> None:
    """Writes `connection.toml` with a comment on every key."""
    lines = ["# Where the coordinator of the consortium is; no secrets.", *commented(settings)]
    write_file(folder / "connection.toml", "\n".join([*lines, ""]).encode())


class Connection:
    """Calls of the registry service; made by `connect`."""

    def __init__(self, channel: grpc.Channel, address: str) -> None:
        self._channel = channel
        self._address = address

    def call(self, method: Method[Asked, Answered], message: Asked, seconds: float = SECONDS) -> Answered:
        """One answer; what was not delivered is sent again until `seconds` have passed, so methods are idempotent.

        Raises:
            ServiceUnreachable, ServiceRefused: no answer, or none but a sentence. MalformedMessage: an answer of another version.
        """
        with self._told():
            answer: bytes = self._channel.unary_unary(method.path)(message.to_bytes(), timeout=min(seconds, method.seconds))
        return method.reply.from_bytes(answer)

    def stream(self, method: Method[Asked, Answered], message: Asked, seconds: float | None = None) -> Iterator[Answered]:
        """The messages of a streamed answer, one by one; raises as `call` does, also in the middle."""
        limit = method.seconds if seconds is None else min(seconds, method.seconds)
        with self._told():
            for answer in self._channel.unary_stream(method.path)(message.to_bytes(), timeout=limit):
                yield method.reply.from_bytes(answer)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            code, details = error.code(), _plain(error.details() or "")
            if code in _SPOKEN:
                raise ServiceRefused(details) from None
            raise _unreachable(self._address, code, details) from None


@contextmanager
def connect(folder: Path, clock: Callable[[], datetime]) -> Iterator[Connection]:
    """The registry service with this institution's own certificate (`tls.pem`, `tls.key`, `ca.pem`).

    Raises:
        SettingsError: a file is missing or damaged. CertificateExpired: it is too late to renew the certificate.
    """
    settings, now = load_connection(folder), clock()
    ca, certificate, key = (_read(folder / name) for name in ("ca.pem", "tls.pem", "tls.key"))
    with connect_with(settings.service, ca, certificate, key, now) as connection:
        yield connection


@contextmanager
def connect_with(address: str, ca: str, certificate: str, key: str, now: datetime) -> Iterator[Connection]:
    """The service at `address` with an authority, a certificate and its key, all PEM; raises as `connect` does."""
    _check_valid(certificate, now)
    credentials = grpc.ssl_channel_credentials(ca.encode(), key.encode(), certificate.encode())
    with grpc.secure_channel(address, credentials, options=_OPTIONS) as channel:
        yield Connection(channel, address)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        raise SettingsError(f"{path} cannot be read; `consortium client status` fetches it once the operator has approved") from None


def _check_valid(certificate: str, now: datetime) -> None:
    try:
        until = x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc
    except ValueError:
        raise SettingsError("the certificate for the registry service is damaged; ask the operator for a new invitation") from None
    if now >= until:
        raise CertificateExpired(
            f"the certificate for the registry service was valid until {until:%Y-%m-%d}; "
            "ask the operator for a new invitation and run `consortium client init` with it in the same folder"
        )


def _plain(details: str) -> str:
    """What another machine said, without what a terminal would obey, and not longer than a sentence."""
    return "".join(character for character in details[:MOST_SAID] if character.isprintable())


def _unreachable(address: str, code: grpc.StatusCode, details: str) -> ServiceUnreachable:
    if "CERTIFICATE_VERIFY_FAILED" in details or "Peer name" in details:
        return ServiceUnreachable(f"{address} shows a certificate that is not the coordinator's; check the address in connection.toml")
    if code is grpc.StatusCode.INTERNAL:
        return ServiceUnreachable(f"{address}: {details}; tell the operator" if details else f"{address} failed; tell the operator")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return ServiceUnreachable(f"{address} does not know this method; both sides must run the same version")
    return ServiceUnreachable(f"the registry service at {address} does not answer; check the network and the address in connection.toml")
