"""What an attacker computes from what it has: a vector without its masks, secrets from shares."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from protocols.masking import add_masks
from protocols.secagg import SumManifest
from protocols.secagg.inputs import pair_keys, self_key
from tests.federation.attacks.adversary import Adversary, Lanes


def sent(adversary: Adversary, name: str, manifest: SumManifest, which: int = 0) -> Lanes:
    """An institution's masked vector, uint32 [size], as it was seen the first time, or the last."""
    one = [one for one in adversary.sums() if (one.institution, one.manifest.hash) == (name, manifest.hash)][which]
    data, lanes = one.answer.arrays["chunks"].tobytes(), manifest.lanes
    chunks = [data[lanes.offset(n) : lanes.offset(n) + lanes.chunk_bytes(n)] for n in range(lanes.chunks)]
    return np.concatenate([lanes.read(chunk, number) for number, chunk in enumerate(chunks)])


def unmasked(masked: Lanes, name: str, manifest: SumManifest, self_seed: bytes | None, pair_seeds: Mapping[str, bytes]) -> Lanes:
    """The vector under these masks; the right seeds give the right vector, any other noise."""
    vector = masked.copy()
    added, subtracted = pair_keys(name, pair_seeds, manifest)
    own = [] if self_seed is None else [self_key(self_seed, manifest)]
    add_masks(vector, subtracted, own + added)
    manifest.lanes.reduce(vector)
    return vector
