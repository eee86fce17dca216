"""Masks: AES-256-CTR streams added to a vector of 32-bit lanes, modulo 2^32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

TILE = 1 << 16  # lanes: 256 KB of vector and of key stream stay in the second-level cache while all masks are added
_SLACK = 15  # update_into asks for a block less one byte more than it writes
_BLOCK_LANES = 4


class Masks:
    """The streams of the keys `plus` (32 bytes each), to be added, and of `minus`, to be subtracted, from lane `start` on.

    Lane i is masked by bytes 4i to 4i + 3 (little-endian) of AES-256-CTR from counter 0: a key must never be used for two
    vectors, which its derivation from the sum's manifest ensures.
    """

    def __init__(self, plus: Sequence[bytes], minus: Sequence[bytes], start: int = 0) -> None:
        if start % _BLOCK_LANES:
            raise ValueError(f"masks begin at a multiple of {_BLOCK_LANES} lanes, not at {start}")
        counter = start // _BLOCK_LANES
        self._streams: list[tuple[CipherContext, Callable[..., Any]]] = [
            *((_stream(key, counter), np.add) for key in plus),
            *((_stream(key, counter), np.subtract) for key in minus),
        ]
        self._zeros, self._buffer = bytes(4 * TILE), bytearray(4 * TILE + _SLACK)

    def add_to(self, tile: NDArray[np.uint32]) -> None:
        """Adds the next lanes of all streams to at most TILE lanes, in place."""
        zeros = self._zeros[: 4 * len(tile)] if len(tile) < TILE else self._zeros
        mask = np.frombuffer(self._buffer, "<u4", len(tile))
        for stream, combine in self._streams:
            stream.update_into(zeros, self._buffer)
            combine(tile, mask, out=tile)


def add_masks(vector: NDArray[np.uint32], plus: Sequence[bytes], minus: Sequence[bytes], start: int = 0) -> None:
    """Adds and subtracts the streams of `Masks` on lanes `start` to `start + len(vector)`, in place."""
    masks = Masks(plus, minus, start)
    for begin in range(0, len(vector), TILE):
        masks.add_to(vector[begin : begin + TILE])


def _stream(key: bytes, counter: int) -> CipherContext:
    return Cipher(AES(key), CTR(counter.to_bytes(16, "big"))).encryptor()
