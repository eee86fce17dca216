"""Mask expansion, elements a second on one core: ours beside the limit and beside what a user would pick instead.

The limit is the key stream of the installed OpenSSL plus one addition to a vector that stays in the cache.
`python -m benchmarks.mask_expansion [--millions N] [--repeats N]`
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from threading import Thread

import numpy as np
from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from numpy.typing import NDArray

from benchmarks.timing import interleaved
from protocols.masking import TILE, add_masks

KEY = bytes(32)
MASKS = 8
ONE, MANY, STREAM, ADDITION = "ours, one mask", f"ours, {MASKS} masks at once", "AES-256-CTR alone", "addition alone"
Lanes = NDArray[np.uint32]


def philox(vector: Lanes) -> None:
    np.add(vector, np.random.Generator(np.random.Philox(0)).integers(0, 2**32, len(vector), np.uint32), out=vector)


def flower(vector: Lanes) -> None:
    """Flower's SecAgg+ expands a mask with numpy's Mersenne Twister, seeded by 32 bits, into 64-bit integers."""
    np.add(vector, pseudo_rand_gen(KEY, 1 << 32, [vector.shape])[0].astype(np.uint32), out=vector)


def key_stream(elements: int) -> None:
    encryptor, zeros, buffer = Cipher(AES(KEY), CTR(bytes(16))).encryptor(), bytes(4 * TILE), bytearray(4 * TILE + 15)
    for _ in range(elements // TILE):
        encryptor.update_into(zeros, buffer)


def additions(elements: int) -> None:
    tile, mask = np.zeros(TILE, np.uint32), np.ones(TILE, np.uint32)
    for _ in range(elements // TILE):
        np.add(tile, mask, out=tile)


def threaded(vectors: list[Lanes]) -> None:
    threads = [Thread(target=add_masks, args=(vector, [KEY] * MASKS, [])) for vector in vectors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    """Prints elements a second of CPU time, then of wall-clock time on one and on two threads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    elements = arguments.millions * 2**20
    vector, parts = np.zeros(elements, np.uint32), [np.zeros(elements // MASKS, np.uint32) for _ in range(2)]
    programs: dict[str, Callable[[], object]] = {
        ONE: lambda: add_masks(vector, [KEY], []),
        MANY: lambda: add_masks(parts[0], [KEY] * MASKS, []),
        STREAM: lambda: key_stream(elements),
        ADDITION: lambda: additions(elements),
        "numpy Philox (not for secrets)": lambda: philox(vector),
        "Flower SecAgg+ (28 bits of entropy)": lambda: flower(vector),
    }
    seconds = interleaved(programs, arguments.repeats, time.process_time)
    limit = seconds[STREAM] + seconds[ADDITION]
    print(backend.openssl_version_text())
    for name, figure in (seconds | {"the limit: key stream and addition": limit}).items():
        print(f"{name:40} {elements / figure / 1e9:7.3f} G elements/s; {limit / figure:7.2f} of the limit")
    print(f"{MASKS} masks at once are {seconds['Flower SecAgg+ (28 bits of entropy)'] / seconds[MANY]:.1f} times as fast as Flower's")
    walls = interleaved({"one thread": lambda: threaded(parts[:1]), "two threads": lambda: threaded(parts)}, arguments.repeats)
    print(f"two threads do {2 * walls['one thread'] / walls['two threads']:.2f} times the work of one in the same time (wall clock)")


if __name__ == "__main__":
    main()
