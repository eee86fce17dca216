"""What stands on both sides of a fence in its tests: certificates, a server that notes what reaches it, a node that signs."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PULL = "/v1/fleet/pull-messages"
PUSH = "/v1/fleet/push-object"
ANSWER = b"answer of the SuperLink"
Changed = Mapping[str, str | None]
KEEP: Changed = MappingProxyType({})
CLOSE: Changed = MappingProxyType({"connection": "close"})


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1 and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(hours=1))
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = builder.add_extension(names, False).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    certificate, private = folder / "server.pem", folder / "server.key"
    certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    private.write_bytes(private_pem(key))
    return certificate, private


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key as PKCS 8."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@dataclass
class Behind:
    """A server with TLS on loopback in place of the SuperLink; it answers everything and notes path, headers and body."""

    certificate: Path
    key: Path
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    answer: bytes = ANSWER
    status: int = 200

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.address = f"https://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        behind = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                behind.paths.append(self.path)
                behind.headers.append({name.lower(): value for name, value in self.headers.items()})
                behind.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(behind.status)
                for name, value in (("content-type", "application/protobuf"), ("set-cookie", "a=b"), ("location", "https://elsewhere")):
                    self.send_header(name, value)
                self.send_header("content-length", str(len(behind.answer)))
                self.end_headers()
                self.wfile.write(behind.answer)

            def log_message(self, *_: object) -> None:
                """Nothing on standard error."""

        return Handler


class Node:
    """A SuperNode's key, and the heads it sends."""

    def __init__(self) -> None:
        self.private = ec.generate_private_key(ec.SECP384R1())
        public, encoding, form = self.private.public_key(), serialization.Encoding, serialization.PublicFormat
        self.public = public.public_bytes(encoding.OpenSSH, form.OpenSSH).decode()
        self.pem = public.public_bytes(encoding.PEM, form.SubjectPublicKeyInfo)

    def headers(self, length: int = 0, at: datetime.datetime | None = None) -> dict[str, str]:
        """Headers as flwr's client sends them."""
        stamp = (at or datetime.datetime.now(datetime.UTC)).isoformat()
        signature = self.private.sign(stamp.encode(), ec.ECDSA(hashes.SHA256()))
        return {
            "host": "localhost",
            "content-type": "application/protobuf",
            "content-length": str(length),
            "flwr-public-key": base64.b64encode(self.pem).decode(),
            "flwr-timestamp": stamp,
            "flwr-signature": base64.b64encode(signature).decode(),
        }

    def request(self, target: str = PULL, body: bytes = b"", extra: str = "", method: str = "POST", changed: Changed = KEEP) -> bytes:
        """A whole request; `changed` replaces headers (None leaves one out), `extra` are further lines."""
        headers = {**self.headers(len(body)), **changed}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value is not None)
        return f"{method} {target} HTTP/1.1\r\n{lines}{extra}\r\n".encode() + body


def connect(port: int, ca: Path) -> ssl.SSLSocket:
    """A TLS connection to a fence."""
    context = ssl.create_default_context(cafile=str(ca))
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=10), server_hostname="localhost")


def send(port: int, ca: Path, data: bytes, silence: float = 0.5) -> bytes:
    """Sends bytes on a new connection; what comes back until the other side closes, or `silence` seconds pass without a byte."""
    with connect(port, ca) as tls:
        tls.sendall(data)
        tls.settimeout(silence)
        return read_all(tls)


def read_all(tls: ssl.SSLSocket) -> bytes:
    """What comes until the end of the connection, or until nothing comes."""
    received = b""
    try:
        while piece := tls.recv(65536):
            received += piece
    except (TimeoutError, ConnectionResetError, ssl.SSLError):
        pass
    return received


def statuses(received: bytes) -> list[int]:
    """The status of every answer in the bytes."""
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]
