"""A sum's total as it is published: written in chunks like an upload, with one Merkle root over them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ProtocolError
from protocols.lanes import LaneFormat
from protocols.merkle import leaf_hash, merkle_root
from protocols.scratch import Scratch


def root_of(lanes: LaneFormat, total: NDArray[np.uint32]) -> bytes:
    """Merkle root over a total, uint32 [size], as it will be written."""
    return merkle_root([leaf_hash(chunk) for chunk in lanes.written(total)])


def total_leaves(lanes: LaneFormat, written: bytes | memoryview) -> list[bytes]:
    """Leaf hashes of a written total."""
    return [leaf_hash(written[span]) for span in _spans(lanes, len(written))]


def total_root(lanes: LaneFormat, written: bytes | memoryview) -> bytes:
    """Merkle root over a written total."""
    return merkle_root(total_leaves(lanes, written))


def read_total(lanes: LaneFormat, written: bytes | memoryview, scratch: Scratch | None = None) -> NDArray[np.uint32]:
    """The lanes of a written total, uint32 [size], in `scratch` or the process's own memory.

    Raises:
        ProtocolError, EncodingError: it does not have the length of its lanes, or a bit that no lane has.
    """
    spans, total = _spans(lanes, len(written)), (scratch or Scratch()).zeros(lanes.size, np.uint32)
    for chunk, span in enumerate(spans):
        total[lanes.span(chunk)] = lanes.read(written[span], chunk)
    return total


def chunk_of_total(lanes: LaneFormat, written: bytes | memoryview, chunk: int) -> bytes:
    """The bytes of one chunk of a written total."""
    return bytes(written[_spans(lanes, len(written))[chunk]])


def _spans(lanes: LaneFormat, length: int) -> list[slice]:
    if lanes.nbytes != length:  # before anything is made of a size that a message claims
        raise ProtocolError(f"a vector of {length} bytes is not {lanes.size} written lanes; it was cut or altered")
    starts = map(lanes.offset, range(lanes.chunks))
    return [slice(start, start + lanes.chunk_bytes(chunk)) for chunk, start in enumerate(starts)]
