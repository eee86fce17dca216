"""The masks of an upload as PROTOCOL section 3 writes them, apart from the code that adds them."""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from protocols.epoch import EpochState
from protocols.keys import Purpose, derive_key
from protocols.secagg import SumManifest

Lanes = NDArray[np.uint32]


def stream(seed: bytes, purpose: Purpose, manifest: SumManifest) -> Lanes:
    key = derive_key(seed, purpose, manifest.hash)
    data = Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(4 * manifest.lanes.size))
    return np.frombuffer(data, "<u4").astype(np.uint32)


def self_mask(state: EpochState, manifest: SumManifest) -> Lanes:
    return stream(state.self_seeds[manifest.slot], Purpose.SELF_MASK, manifest)


def pair_mask(state: EpochState, other: str, manifest: SumManifest) -> Lanes:
    """What the member adds for another: the stream, or its negative towards names before its own."""
    lanes = stream(state.pair_seeds[other][manifest.slot], Purpose.PAIR_MASK, manifest)
    return lanes if other > state.sender else np.negative(lanes)
