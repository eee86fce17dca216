"""A stream of bytes that nobody can foretell, AES-256-CTR under a derived key, and uniform numbers from it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from protocols.errors import PrivacyError
from protocols.keys import KEY_BYTES, Purpose, derive_key

Stream = Callable[[int], bytes]  # number of bytes -> as many fresh ones
UNIFORM_BITS = 53
_BLOCK = 16  # bytes
_NUMBER = 8  # bytes


class CryptographicStream:
    """The key stream of one purpose in one context; every call returns the bytes after those of the call before.

    Parameters
    ----------
    secret
        32 random bytes of the caller's, which never leave it: who knows them can subtract the noise.
    purpose, context
        What the bytes are for. Two streams with equal secret, purpose and context are the same stream: noise that was drawn for other
        values must never be drawn again, so a secret is drawn afresh for each of them.

    Raises
    ------
    PrivacyError
        The secret has another length.
    """

    def __init__(self, secret: bytes, purpose: Purpose, *context: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise PrivacyError(f"a stream's secret has {len(secret)} bytes; pass {KEY_BYTES} from the operating system")
        self._encryptor = Cipher(AES(derive_key(secret, purpose, *context)), CTR(bytes(_BLOCK))).encryptor()

    def __call__(self, n_bytes: int) -> bytes:
        """The next bytes."""
        return self._encryptor.update(bytes(n_bytes))


def integers(size: int, stream: Stream) -> NDArray[np.uint64]:
    """Uniform integers below 2^53, uint64 [size]; 8 bytes are drawn for each."""
    return np.frombuffer(stream(_NUMBER * size), "<u8") >> np.uint64(64 - UNIFORM_BITS)


def uniforms(size: int, stream: Stream) -> NDArray[np.float64]:
    """Uniform numbers above 0, float64 [size]: the middles of 2^53 equal parts of [0, 1], the upper half rounded to even."""
    numbers = integers(size, stream).astype(np.float64)
    numbers += 0.5
    numbers *= 2.0**-UNIFORM_BITS
    return numbers
