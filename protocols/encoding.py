"""Real and integer values as lanes of 32, 24 or 20 bits, whose sums are exact modulo 2^bits (PROTOCOL, section 3, lanes)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import EncodingError
from protocols.lanes import LaneFormat
from protocols.on_demand import OnDemand
from protocols.scratch import Scratch

WIDE_BITS = 32
TILE = 1 << 14  # values whose float64 scratch, 128 KB twice, stays in the second-level cache
Values = Mapping[str, NDArray[np.floating[Any]]]  # of one institution
Total = Mapping[str, NDArray[np.float64]]  # of all together, decoded when it is asked for


@dataclass(frozen=True)
class Block:
    """Lanes of one tensor: |value| of one institution is at most `bound`; integers are carried exactly.

    `narrow` lets a layout carry real values in fewer bits than 32: for deltas, of which there are many, and never for weights.
    """

    name: str
    shape: tuple[int, ...]
    bound: float
    integer: bool
    narrow: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def wide(self) -> bool:
        """Whether its lanes have 32 bits in every layout."""
        return self.integer or not self.narrow


@dataclass(frozen=True)
class LaneLayout:
    """Order, shape, scale and bits of everything in a vector; equal at every party."""

    blocks: tuple[Block, ...]
    bits: int = WIDE_BITS

    @property
    def size(self) -> int:
        return sum(block.size for block in self.blocks)

    @cached_property
    def format(self) -> LaneFormat:
        """How the vector is written."""
        return LaneFormat(self.size, sum(block.size for block in self.blocks if self.bits_of(block) == WIDE_BITS), self.bits)

    @cached_property
    def hash(self) -> bytes:
        content = [[b.name, list(b.shape), b.bound.hex(), b.integer, self.bits_of(b)] for b, _ in self.spans()]
        return hashlib.sha256(b"consortium lanes 2\0" + json.dumps([self.bits, content]).encode()).digest()

    def bits_of(self, block: Block) -> int:
        """Bits of each of a block's lanes."""
        return WIDE_BITS if block.wide else self.bits

    def spans(self) -> Iterator[tuple[Block, slice]]:
        """Every block with its lanes, as they stand in the vector: those of 32 bits first."""
        start = 0
        for block in sorted(self.blocks, key=lambda block: self.bits_of(block) != WIDE_BITS):
            yield block, slice(start, start + block.size)
            start += block.size


def largest_quantum(institutions: int, bits: int = WIDE_BITS) -> int:
    """The largest |integer| of one institution in a lane: ceil(log2 n) + 1 bits of headroom beside the sign."""
    headroom = math.ceil(math.log2(max(institutions, 1))) + 1
    return int(2 ** (bits - 1 - headroom)) - 1


def encode(
    values: Values, layout: LaneLayout, institutions: int, generator: np.random.Generator, into: Scratch | None = None
) -> NDArray[np.uint32]:
    """One institution's lanes, uint32 [size], reduced. Reals are rounded up or down at random, so that the mean is exact.

    Values may be of any real type; float32 is never copied as a whole. One number of `generator` is drawn for each real value, in
    the vector's order. The lanes are made in `into`, or the process's own memory.

    Raises:
        EncodingError: a value is missing, misshapen, not finite or above its bound.
    """
    vector, tiles = (into or Scratch()).zeros(layout.size, np.uint32), _Tiles(generator)
    for block, span in layout.spans():
        lane, quantum = _flat(values, block), largest_quantum(institutions, layout.bits_of(block))
        for start in range(0, block.size, TILE):
            first, tile = span.start + start, lane[start : start + TILE]
            lanes = vector[first : first + len(tile)]
            tiles.quantise(tile, block, quantum, lanes.view(np.int32))
            layout.format.reduce(lanes, first)
    return vector


def decode(total: NDArray[np.uint32], layout: LaneLayout, institutions: int) -> Total:
    """The sums of all institutions' values, float64, by block, each made when it is asked for. Of a narrow lane only its own bits count.

    Raises:
        EncodingError: the vector is not of this layout.
    """
    if total.shape != (layout.size,) or total.dtype != np.uint32:
        raise EncodingError(f"a vector of {total.size} lanes does not fit a layout of {layout.size}")
    places = {block.name: (block, span) for block, span in layout.spans()}

    def decoded(name: str) -> NDArray[np.float64]:
        block, span = places[name]
        bits = layout.bits_of(block)
        step = 1.0 if block.integer else block.bound / largest_quantum(institutions, bits)
        return _signed(total[span], bits, step).reshape(block.shape)

    return OnDemand([block.name for block in layout.blocks], decoded)


def rescaled(
    vector: NDArray[np.uint32], layout: LaneLayout, made_for: int, institutions: int, into: Scratch | None = None
) -> NDArray[np.uint32]:
    """A vector that was encoded for a cohort of `made_for`, as one of `institutions` adds it up: reals at the nearest step.

    It follows from the vector and the two numbers alone, so that what is masked for one manifest is the same whenever it is asked.

    Raises:
        EncodingError: an integer's bound leaves so many institutions no room.
    """
    if largest_quantum(made_for) == largest_quantum(institutions):
        return vector
    scaled = (into or Scratch()).zeros(vector.shape, np.uint32)
    scaled[:] = vector
    for block, span in layout.spans():
        bits = layout.bits_of(block)
        quantum = largest_quantum(institutions, bits)
        if block.integer and block.bound > quantum:
            raise EncodingError(f"{block.name} must hold integers of at most {quantum}")
        if not block.integer:
            _rescale(scaled[span], span.start, layout.format, bits, quantum / largest_quantum(made_for, bits))
    return scaled


class _Tiles:
    """One tile's work space: what is drawn and computed between a value and its lane stays in the cache."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._scaled, self._drawn = np.empty(TILE), np.empty(TILE)

    def quantise(self, tile: NDArray[Any], block: Block, quantum: int, lanes: NDArray[np.int32]) -> None:
        """Writes the integers of at most TILE values, after checking them."""
        scaled, drawn = self._scaled[: len(tile)], self._drawn[: len(tile)]
        _check_tile(tile, block)
        if block.integer:
            _check_integers(tile, block, quantum)
            lanes[:] = tile
            return
        np.multiply(tile, quantum / block.bound, out=scaled, dtype=np.float64)
        np.add(scaled, self._generator.random(out=drawn), out=scaled)
        np.clip(np.floor(scaled, out=scaled), -quantum, quantum, out=scaled)
        lanes[:] = scaled


def _flat(values: Values, block: Block) -> NDArray[Any]:
    if block.name not in values:
        raise EncodingError(f"{block.name} is missing from the vector")
    lane: NDArray[Any] = np.asarray(values[block.name])
    if lane.shape != block.shape:
        raise EncodingError(f"{block.name} must have shape {block.shape} and finite values")
    return lane.reshape(-1)


def _check_tile(tile: NDArray[Any], block: Block) -> None:
    peak = max(float(tile.max()), -float(tile.min()))  # two passes that write nothing; both are NaN if one value is
    if not math.isfinite(peak):
        raise EncodingError(f"{block.name} must have shape {block.shape} and finite values")
    if peak > block.bound:
        raise EncodingError(f"{block.name} exceeds its bound of {block.bound:g}")


def _check_integers(tile: NDArray[Any], block: Block, quantum: int) -> None:
    if block.bound > quantum or not np.array_equal(tile, np.rint(tile)):
        raise EncodingError(f"{block.name} must hold integers of at most {quantum}")


def _rescale(lanes: NDArray[np.uint32], first: int, format_: LaneFormat, bits: int, factor: float) -> None:
    """Multiplies lanes in place; `first` is the number of the first one in the vector."""
    for start in range(0, len(lanes), TILE):
        tile = lanes[start : start + TILE]
        tile.view(np.int32)[:] = np.rint(_signed(tile, bits, factor))
        format_.reduce(tile, first + start)


def _signed(lanes: NDArray[np.uint32], bits: int, step: float) -> NDArray[np.float64]:
    """Lanes of Z_2^bits as signed multiples of `step`, float64."""
    values, unused = np.empty(len(lanes)), np.int32(WIDE_BITS - bits)
    for start in range(0, len(lanes), TILE):
        tile = lanes[start : start + TILE].view(np.int32)
        np.multiply(tile << unused >> unused if unused else tile, step, out=values[start : start + TILE], dtype=np.float64)
    return values
