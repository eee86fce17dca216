"""Processes on free ports of loopback, with certificates of an authority that exists for one test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.consortium.command_line import environment

PEM = serialization.Encoding.PEM


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(ready: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Asks until the answer is true; fails naming what was waited for."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"{what} did not come about in {seconds:.0f} s"
        time.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Authority:
    """Files of a certificate authority and of a server's certificate for localhost and 127.0.0.1."""

    authority: Path
    authority_key: Path
    certificate: Path
    key: Path


def make_authority(folder: Path) -> Authority:
    """Writes `ca.pem`, `ca.key`, `server.pem` and `server.key` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files = Authority(*(folder / name for name in ("ca.pem", "ca.key", "server.pem", "server.key")))
    signer, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    basic = x509.BasicConstraints(ca=True, path_length=0)
    root = _certificate("authority", signer.public_key()).add_extension(basic, critical=True).sign(signer, hashes.SHA256())
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    leaf = _certificate("localhost", server.public_key()).add_extension(names, critical=False).sign(signer, hashes.SHA256())
    files.authority.write_bytes(root.public_bytes(PEM))
    files.certificate.write_bytes(leaf.public_bytes(PEM))
    for path, key in ((files.authority_key, signer), (files.key, server)):
        path.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return files


def make_node_key(path: Path) -> str:
    """Writes a SuperNode's private key in OpenSSH form; its public key as PEM."""
    key = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()))
    path.chmod(0o600)
    return key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


class Started:
    """A process whose output goes to a file; stopping it stops what it started, too."""

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        self.command, self.env = command, env
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, env=env or environment(), stdout=output, stderr=output, start_new_session=True)

    def again(self) -> Started:
        """The same command once more."""
        return Started(self.command, self.log, self.env)

    def kill(self) -> None:
        """`kill -9`, as a machine that loses power."""
        self._signal(signal.SIGKILL)
        self.process.wait(timeout=10)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what is left after 10 s."""
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        self.kill()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


@contextmanager
def running(command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> Iterator[Started]:
    """The process for as long as the block runs."""
    started = Started(command, log, env)
    try:
        yield started
    finally:
        started.stop()


def _certificate(name: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    issuer, subject = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in ("authority", name))
    builder = x509.CertificateBuilder().issuer_name(issuer).subject_name(subject).public_key(key).serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
