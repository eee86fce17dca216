"""Masks: AES-256-CTR streams added to a vector of 32-bit lanes, modulo 2^32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

TILE = 1 << 16  # lanes: 256 KB of vector and of key stream stay in the second-level cache while all masks are added
_SLACK = 15  # update_into asks for a block less one byte more than it writes


def add_masks(vector: NDArray[np.uint32], plus: Sequence[bytes], minus: Sequence[bytes]) -> None:
    """Adds the streams of the keys `plus` (32 bytes each) and subtracts those of `minus`, in place.

    Lane i is masked by bytes 4i to 4i + 3 (little-endian) of AES-256-CTR from counter 0: a key must never be used for two
    vectors, which its derivation from the sum's manifest ensures.
    """
    streams = [(_stream(key), np.add) for key in plus] + [(_stream(key), np.subtract) for key in minus]
    zeros, buffer = bytes(4 * TILE), bytearray(4 * TILE + _SLACK)
    mask = np.frombuffer(buffer, "<u4", TILE)
    for start in range(0, len(vector), TILE):
        tile = vector[start : start + TILE]
        for stream, combine in streams:
            stream.update_into(zeros[: 4 * len(tile)] if len(tile) < TILE else zeros, buffer)
            combine(tile, mask[: len(tile)], out=tile)


def _stream(key: bytes) -> CipherContext:
    return Cipher(AES(key), CTR(bytes(16))).encryptor()
