"""The order of records: epochs without repetition that run on across rounds, records of like length together. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

WINDOW = 8  # batches whose records are sorted by length together


def generator(seed: int, purpose: str) -> np.random.Generator:
    """The stream of pseudo-random numbers for one public purpose."""
    key = hashlib.sha256(f"consortium {purpose}\0{seed}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def training_order(lengths: Sequence[int], seed: int, batch_size: int, first: int, count: int) -> Iterator[NDArray[np.int64]]:
    """Indices of the records in batches `first` to `first + count` of an endless stream, the same in whatever pieces it is asked for.

    The stream is one permutation of all records after the other. Within windows of WINDOW batches records are sorted by
    length, which keeps padding small, and the window's batches are taken in random order.
    """
    sizes = np.asarray(lengths)
    for number in range(first, first + count):
        window, place = divmod(number, WINDOW)
        positions = np.arange(window * WINDOW * batch_size, (window + 1) * WINDOW * batch_size)
        records = _stream(positions, len(sizes), seed)
        by_length = records[np.argsort(sizes[records], kind="stable")]
        chosen = generator(seed, f"order of batches {window}").permutation(WINDOW)[place]
        yield by_length[chosen * batch_size : (chosen + 1) * batch_size]


def _stream(positions: NDArray[np.int64], records: int, seed: int) -> NDArray[np.int64]:
    epochs, within = np.divmod(positions, records)
    orders = {int(epoch): generator(seed, f"order of records {epoch}").permutation(records) for epoch in np.unique(epochs)}
    return np.array([orders[int(epoch)][place] for epoch, place in zip(epochs, within, strict=True)], np.int64)
