"""Mask expansion, elements a second on one core: ours beside what a user would pick instead, and beside the limit.

python benchmarks/mask_expansion.py [MILLIONS]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

from protocols.masking import TILE, add_masks

REPEATS = 5
KEY = bytes(32)


def rate(work: Callable[[], object], elements: int) -> float:
    """Median elements a second over the repeats, by CPU time."""
    work()
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return elements / sorted(times)[REPEATS // 2]


def philox(vector: np.ndarray) -> None:
    np.add(vector, np.random.Generator(np.random.Philox(0)).integers(0, 2**32, len(vector), np.uint32), out=vector)


def flower(vector: np.ndarray) -> None:
    """Flower's SecAgg+ expands a mask with numpy's Mersenne Twister, seeded by 32 bits, into 64-bit integers."""
    np.add(vector, pseudo_rand_gen(KEY, 1 << 32, [vector.shape])[0].astype(np.uint32), out=vector)


def key_stream_alone(elements: int) -> None:
    """The limit: the cipher without the addition."""
    encryptor, zeros, buffer = Cipher(AES(KEY), CTR(bytes(16))).encryptor(), bytes(4 * TILE), bytearray(4 * TILE + 15)
    for _ in range(elements // TILE):
        encryptor.update_into(zeros, buffer)


def main(millions: int) -> None:
    """Prints a line per generator: elements a second, and ours as a multiple of it."""
    elements = millions * 2**20
    vector = np.zeros(elements, np.uint32)
    ours = rate(lambda: add_masks(vector, [KEY], []), elements)
    others = {
        "AES-256-CTR without the addition (the limit)": rate(lambda: key_stream_alone(elements), elements),
        "numpy Philox (not for secrets)": rate(lambda: philox(vector), elements),
        "Flower SecAgg+ (28 bits of entropy)": rate(lambda: flower(vector), elements),
    }
    print(f"{'ours: AES-256-CTR added in place':50} {ours / 1e9:6.3f} G elements/s")
    for name, figure in others.items():
        print(f"{name:50} {figure / 1e9:6.3f} G elements/s   ours is {ours / figure:6.2f}x")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 16)
