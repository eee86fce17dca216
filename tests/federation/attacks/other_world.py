"""A programmable mask oracle: a world in which two institutions put in something else, and only the key stream between them tells.

What the taker's vector gains the giver's loses; the stream of their pair, which the giver adds and the taker subtracts, gains it too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import CipherContext
from numpy.typing import NDArray

import protocols.masking
import protocols.secagg.inputs
from client.contribution import contribute
from protocols.encoding import LaneLayout, encode
from protocols.keys import Purpose
from protocols.scratch import Scratch
from protocols.secagg import SumManifest
from tests.federation.attacks.adversary import Lanes
from tests.federation.attacks.weakened import weakened

GIVER, TAKER = "ada", "bea"
PAIR_KEYS, STREAM = protocols.secagg.inputs.pair_keys, protocols.masking._stream


@dataclass
class Oracle:
    """What answers in place of the pair's key streams, and what the two put in."""

    keys: dict[bytes, bytes] = field(default_factory=dict)  # of the pair's masks -> what its shift is drawn from

    def encode(
        self, values: Mapping[str, Any], layout: LaneLayout, institutions: int, generator: np.random.Generator, into: Scratch | None = None
    ) -> Lanes:
        """The vector of one institution in this world."""
        vector = encode(values, layout, institutions, generator, into)
        if isinstance(values, Owned) and values.owner in (GIVER, TAKER):
            shift = _shift(values.sum.encode(), 0, len(vector))
            vector = vector - shift if values.owner == GIVER else vector + shift
            layout.format.reduce(vector)
        return vector

    def pair_keys(self, member: str, seeds: Mapping[str, bytes], manifest: SumManifest) -> tuple[list[bytes], list[bytes]]:
        """As in the product; the pair's key is noted."""
        other = {GIVER: TAKER, TAKER: GIVER}.get(member, "")
        if other in seeds:
            derive = vars(protocols.secagg.inputs)["derive_key"]  # an imitation's, where there is one
            key = derive(seeds[other], Purpose.PAIR_MASK, manifest.hash)
            self.keys.setdefault(key, f"{manifest.round}/{manifest.sum}".encode())
        return PAIR_KEYS(member, seeds, manifest)

    def stream(self, key: bytes, counter: int) -> Any:
        """The key stream of a mask."""
        honest = STREAM(key, counter)
        return _Shifted(honest, self.keys[key], 4 * counter) if key in self.keys else honest


class Owned(dict[str, NDArray[np.float64]]):
    """Values that remember whose they are, and of which sum."""

    owner: str
    sum: str


def owned(work: Any, terms: Any, state: Any, planned: Any, *rest: Any) -> Owned:
    values = Owned(contribute(work, terms, state, planned, *rest))
    values.owner, values.sum = work.name, f"{planned.round}/{planned.kind}"
    return values


@dataclass
class _Shifted:
    """A stream whose lanes are larger: the giver, whose name comes first, adds it."""

    honest: CipherContext
    drawn_from: bytes
    lane: int

    def update_into(self, zeros: bytes, buffer: bytearray) -> None:
        self.honest.update_into(zeros, buffer)
        lanes = np.frombuffer(buffer, "<u4", len(zeros) // 4)
        lanes += _shift(self.drawn_from, self.lane, len(lanes))
        self.lane += len(lanes)


def _shift(drawn_from: bytes, start: int, size: int) -> Lanes:
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(hashlib.sha256(drawn_from).digest()[:16], "little")))
    return generator.integers(0, 2**32, start + size, np.uint32)[start:]


@contextmanager
def other_world() -> Iterator[None]:
    oracle = Oracle()
    keys = ("protocols.secagg.inputs.pair_keys", "protocols.secagg.accumulator.pair_keys")
    with (
        weakened("client.sums.contribute", by=owned),
        weakened("client.sums.encode", by=oracle.encode),
        weakened(*keys, by=oracle.pair_keys),
        weakened("protocols.masking._stream", by=oracle.stream),
    ):
        yield
