"""Identity keys (Ed25519) and the signed envelope around every message of the application (PROTOCOL, section 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocols.codec import Message
from protocols.errors import ConsortiumError, SignatureError
from protocols.files import write_new_secret
from protocols.roster import Roster

SEED_BYTES = 32
# y of the points of order 1, 2, 4 and 8, and of 0 and 1 written as p and p + 1 (RFC 8032, section 5.1): under such a key one
# signature may hold for every message, and OpenSSL takes them.
_SMALL_ORDER = frozenset(
    bytes.fromhex(y)
    for y in (
        "00" * 32,
        "01" + "00" * 31,
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
)


class Identity:
    """A name with its signing key; the key is in no representation of the object."""

    def __init__(self, name: str, seed: bytes) -> None:
        self.name = name
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, name: str, randomness: Callable[[int], bytes]) -> Identity:
        return cls(name, randomness(SEED_BYTES))

    def sign(self, data: bytes) -> bytes:
        """A signature of 64 bytes; `data` begins with a tag that says what it is."""
        return self._key.sign(data)

    def save(self, path: Path) -> None:
        """Writes the key file (mode 0600): whole or not at all, and never over another."""
        try:
            write_new_secret(path, self._key.private_bytes_raw())
        except FileExistsError:
            raise ConsortiumError(f"{path} holds a key already; move it away before making a new identity") from None

    @classmethod
    def load(cls, name: str, path: Path) -> Identity:
        """Reads a key file.

        Raises:
            ConsortiumError: it is missing, damaged, or readable by others.
        """
        try:
            seed, mode = path.read_bytes(), path.stat().st_mode
        except OSError:
            raise ConsortiumError(f"{path} cannot be read; it holds the identity key of {name}") from None
        if mode & 0o077:
            raise ConsortiumError(f"{path} is open to other users; run chmod 600 on it")
        if len(seed) != SEED_BYTES:
            raise ConsortiumError(f"{path} is no identity key; restore it from where it was made")
        return cls(name, seed)


@dataclass(frozen=True)
class Envelope(Message):
    """A message with everything that decides what it may mean; nothing that the transport says decides anything."""

    sender: str
    recipient: str
    run: str
    round: int
    attempt: int
    stage: str
    manifest_hash: bytes
    incarnation: int
    payload: bytes


@dataclass(frozen=True)
class _Sealed(Message):
    envelope: Envelope
    signature: bytes


def seal_envelope(identity: Identity, envelope: Envelope) -> bytes:
    """The envelope's bytes with its sender's signature."""
    return _Sealed(envelope, identity.sign(_tagged(envelope))).to_bytes()


def open_envelope(data: bytes, roster: Roster) -> Envelope:
    """The envelope, if its sender on the roster signed it.

    Raises:
        MalformedMessage, RosterError, SignatureError: it is not.
    """
    sealed = _Sealed.from_bytes(data)
    return _checked(sealed, roster.key_of(sealed.envelope.sender))


def sender_of(data: bytes) -> str:
    """Who an envelope says that it is from, unverified. Raises MalformedMessage if it is none."""
    return _Sealed.from_bytes(data).envelope.sender


def open_envelope_of(data: bytes, public_key: bytes) -> Envelope:
    """The envelope, if the holder of `public_key` signed it.

    Raises:
        MalformedMessage, SignatureError: it is not.
    """
    return _checked(_Sealed.from_bytes(data), public_key)


def verify(public_key: bytes, data: bytes, signature: bytes, who: str = "the signer") -> None:
    """Checks an Ed25519 signature.

    Raises:
        SignatureError: it is not `who`'s, or the key is a point of small order.
    """
    if public_key[:31] + bytes(byte & 0x7F for byte in public_key[31:]) in _SMALL_ORDER:
        raise SignatureError(f"the key of {who} is none: anyone can sign under it; compare the roster with the institution")
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        raise SignatureError(f"a signature is not that of {who}; the message was altered, or the roster holds another key") from None


def _checked(sealed: _Sealed, public_key: bytes) -> Envelope:
    verify(public_key, _tagged(sealed.envelope), sealed.signature, sealed.envelope.sender)
    return sealed.envelope


def _tagged(envelope: Envelope) -> bytes:
    return b"consortium envelope 1\0" + envelope.to_bytes()
