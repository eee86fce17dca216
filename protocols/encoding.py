"""Real and integer values as 32-bit lanes whose sums are exact modulo 2^32 (PROTOCOL, section 3, lanes)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from protocols.errors import EncodingError
from protocols.lanes import LaneFormat

LANE_BITS = 32
Values = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Block:
    """Lanes of one tensor: |value| of one institution is at most `bound`; integers are carried exactly."""

    name: str
    shape: tuple[int, ...]
    bound: float
    integer: bool

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class LaneLayout:
    """Order, shape and scale of everything in a vector; equal at every party."""

    blocks: tuple[Block, ...]

    @property
    def size(self) -> int:
        return sum(block.size for block in self.blocks)

    @property
    def format(self) -> LaneFormat:
        """How a vector of these lanes is written."""
        return LaneFormat(self.size, self.size, LANE_BITS)

    @cached_property
    def hash(self) -> bytes:
        content = [[b.name, list(b.shape), b.bound.hex(), b.integer] for b in self.blocks]
        return hashlib.sha256(b"consortium lanes 1\0" + json.dumps([LANE_BITS, content]).encode()).digest()


def largest_quantum(institutions: int) -> int:
    """The largest |integer| of one institution in a lane: ceil(log2 n) + 1 bits of headroom beside the sign."""
    headroom = math.ceil(math.log2(max(institutions, 1))) + 1
    return int(2 ** (LANE_BITS - 1 - headroom)) - 1


def encode(values: Values, layout: LaneLayout, institutions: int, generator: np.random.Generator) -> NDArray[np.uint32]:
    """One institution's lanes, uint32 [size]. Reals are rounded up or down at random, so that the mean is exact.

    Raises:
        EncodingError: a value is missing, misshapen, not finite or above its bound.
    """
    quantum = largest_quantum(institutions)
    vector = np.empty(layout.size, np.uint32)
    start = 0
    for block in layout.blocks:
        lanes = vector[start : start + block.size]
        lanes[:] = _quantise(_checked(values, block), block, quantum, generator).astype(np.int64).astype(np.uint32)
        start += block.size
    return vector


def decode(total: NDArray[np.uint32], layout: LaneLayout, institutions: int) -> dict[str, NDArray[np.float64]]:
    """The sums of all institutions' values, float64, by block.

    Raises:
        EncodingError: the vector is not of this layout.
    """
    if total.shape != (layout.size,) or total.dtype != np.uint32:
        raise EncodingError(f"a vector of {total.size} lanes does not fit a layout of {layout.size}")
    quantum, start, values = largest_quantum(institutions), 0, {}
    for block in layout.blocks:
        lanes = total[start : start + block.size].view(np.int32).astype(np.float64).reshape(block.shape)
        values[block.name] = lanes if block.integer else lanes * (block.bound / quantum)
        start += block.size
    return values


def _checked(values: Values, block: Block) -> NDArray[np.float64]:
    if block.name not in values:
        raise EncodingError(f"{block.name} is missing from the vector")
    lane = np.asarray(values[block.name], np.float64)
    if lane.shape != block.shape or not np.isfinite(lane).all():
        raise EncodingError(f"{block.name} must have shape {block.shape} and finite values")
    if lane.size and float(np.abs(lane).max()) > block.bound:
        raise EncodingError(f"{block.name} exceeds its bound of {block.bound:g}")
    return lane.ravel()


def _quantise(lane: NDArray[np.float64], block: Block, quantum: int, generator: np.random.Generator) -> NDArray[np.float64]:
    if block.integer:
        if block.bound > quantum or not np.array_equal(lane, np.rint(lane)):
            raise EncodingError(f"{block.name} must hold integers of at most {quantum}")
        return lane
    scaled = np.floor(lane * (quantum / block.bound) + generator.random(lane.size))
    return np.clip(scaled, -quantum, quantum)
