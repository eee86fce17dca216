"""Every key and seed is derived here, each with a named purpose and its full context (HKDF-SHA256, RFC 5869)."""

from __future__ import annotations

import hashlib
from enum import Enum

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32


class Purpose(Enum):
    """What a derived key is for; no two uses share one."""

    CHANNEL = "channel secret of a pair"
    SEAL = "sealing shares in one direction"
    PAIR_SEED = "pair seed of a slot"
    PAIR_MASK = "pair mask of a sum"
    SELF_MASK = "self mask of a sum"
    RECOVERY = "envelope of a slot's pair seeds"
    SAMPLING = "which units a private step takes"
    NOISE = "noise of a private run"
    ROUNDING = "rounding of a private unit's vector"


def derive_key(secret: bytes, purpose: Purpose, *context: bytes) -> bytes:
    """32 bytes from a secret, for one purpose in one context."""
    info = b"".join(len(part).to_bytes(4, "little") + part for part in (b"consortium 1", purpose.value.encode(), *context))
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=info).derive(secret)


def commit(kind: str, secret: bytes) -> bytes:
    """Hash that binds to a secret of at least 32 random bytes without telling it."""
    return hashlib.sha256(f"consortium commitment {kind}\0".encode() + secret).digest()
