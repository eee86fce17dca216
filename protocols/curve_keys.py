"""Keys on NIST curves, for what others speak: TLS certificates (P-256) and Flower's node authentication (P-384). No part in secure sums."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)

from protocols.errors import ConsortiumError
from protocols.files import write_new_secret

TLS_CURVE = ec.SECP256R1()
NODE_CURVE = ec.SECP384R1()


def new_key(curve: ec.EllipticCurve, randomness: Callable[[int], bytes]) -> ec.EllipticCurvePrivateKey:
    """A private key from 64 more random bits than the order has, which leaves no bias (FIPS 186-5, A.2.1)."""
    order = curve.group_order
    drawn = int.from_bytes(randomness((order.bit_length() + 64 + 7) // 8), "big")
    return ec.derive_private_key(drawn % (order - 1) + 1, curve)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The private key as unencrypted PKCS #8."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def tls_key(path: Path, randomness: Callable[[int], bytes]) -> ec.EllipticCurvePrivateKey:
    """The TLS key in a file (PEM, mode 0600), made on first use.

    Raises:
        ConsortiumError: the file is damaged or open to others.
    """
    if not path.exists():
        write_new_secret(path, key_pem(new_key(TLS_CURVE, randomness)))
    return load_tls_key(path)


def load_tls_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The TLS key in a file; raises as `tls_key` does, also where there is none."""
    return _checked(path, load_pem_private_key)


def node_key(path: Path, randomness: Callable[[int], bytes]) -> ec.EllipticCurvePrivateKey:
    """The SuperNode's key in a file (OpenSSH, mode 0600), made on first use; raises as `tls_key` does."""
    if not path.exists():
        made = new_key(NODE_CURVE, randomness)
        write_new_secret(path, made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return _checked(path, load_ssh_private_key)


def openssh_public(key: ec.EllipticCurvePrivateKey) -> str:
    """The public half as one OpenSSH line without a comment."""
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def check_node_key(line: str) -> None:
    """Raises ConsortiumError unless the line is what `openssh_public` writes of a P-384 key."""
    try:
        key = load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    written = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() if isinstance(key, ec.EllipticCurvePublicKey) else ""
    if not written.startswith("ecdsa-sha2-nistp384 ") or written != line:
        raise ConsortiumError("the node key is no P-384 key in OpenSSH form; run `consortium client init` of the same version")


def _checked(path: Path, load: Callable[[bytes, None], object]) -> ec.EllipticCurvePrivateKey:
    try:
        content, mode = path.read_bytes(), path.stat().st_mode
    except OSError:
        raise ConsortiumError(f"{path} cannot be read; restore it from where it was made") from None
    if mode & 0o077:
        raise ConsortiumError(f"{path} is open to other users; run chmod 600 on it")
    try:
        key = load(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConsortiumError(f"{path} is no key of the kind that belongs there; restore it from where it was made")
    return key
