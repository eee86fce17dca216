"""How a vector of lanes is written: chunk by chunk, wide lanes with 32 bits and narrow ones with 32, 24 or 20 (PROTOCOL, section 3).

In memory every lane is a uint32. A narrow lane is an element of Z_2^bits, so that it is reduced once, when it is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.codec import Message
from protocols.errors import EncodingError

CHUNK_LANES = 1 << 12  # 16 KB of wide lanes: what a Merkle path shows, and an even number, so that 20-bit pairs never cross chunks
LANE_BITS = (32, 24, 20)


@dataclass(frozen=True)
class LaneFormat(Message):
    """`size` lanes, of which the first `wide` have 32 bits and the others `bits`."""

    size: int
    wide: int
    bits: int

    def check(self) -> None:
        """Raises EncodingError unless the format is one that can be written."""
        if self.bits not in LANE_BITS or not 0 <= self.wide <= self.size:
            raise EncodingError(f"lanes of {self.bits} bits, {self.wide} of {self.size} wide, cannot be written; use 32, 24 or 20 bits")

    @property
    def chunks(self) -> int:
        """Chunks of a written vector; an empty one has one, without lanes."""
        return max(1, -(-self.size // CHUNK_LANES))

    @property
    def nbytes(self) -> int:
        """Bytes of a written vector."""
        last = self.chunks - 1
        return self.offset(last) + self.chunk_bytes(last)

    def span(self, chunk: int) -> slice:
        """The lanes of a chunk."""
        return slice(CHUNK_LANES * chunk, min(CHUNK_LANES * (chunk + 1), self.size))

    def reduce(self, values: NDArray[np.uint32], start: int = 0) -> None:
        """Takes lanes `start` to `start + len(values)` modulo 2^bits, in place."""
        if self.bits < 32:
            values[max(0, self.wide - start) :] &= np.uint32((1 << self.bits) - 1)

    def write(self, values: NDArray[np.uint32], start: int) -> bytes:
        """The bytes of lanes from `start` on, which must be reduced: little-endian; two of 20 bits in five bytes, the first one low."""
        wide = self._wide(start, len(values))
        return values[:wide].astype("<u4", copy=False).tobytes() + _pack(values[wide:], self.bits)

    def read(self, data: bytes | memoryview, chunk: int) -> NDArray[np.uint32]:
        """The lanes of one written chunk, of wide ones as a view of it.

        Raises:
            EncodingError: it has another length, or a bit that no lane has.
        """
        self.check_chunk(data, chunk)
        span = self.span(chunk)
        wide, count = self._wide(span.start, span.stop - span.start), span.stop - span.start
        if wide == count:
            return np.frombuffer(data, "<u4")
        lanes = np.empty(count, np.uint32)
        lanes[:wide] = np.frombuffer(data[: 4 * wide], "<u4")
        _unpack(data[4 * wide :], self.bits, lanes[wide:])
        return lanes

    def check_chunk(self, data: bytes | memoryview, chunk: int) -> None:
        """Raises EncodingError unless these are the bytes of lanes: of the chunk's length, and with no bit that no lane has."""
        span = self.span(chunk)
        narrow = span.stop - span.start - self._wide(span.start, span.stop - span.start)
        if len(data) != self.chunk_bytes(chunk):
            raise EncodingError(f"chunk {chunk} has {len(data)} bytes, which is not the length of its lanes; it was cut or altered")
        if self.bits == 20 and narrow % 2 and (data[-3] >> 4 or data[-2] or data[-1]):
            raise EncodingError(f"the half byte after the last lane of chunk {chunk} is not zero; it was altered")

    def chunk_bytes(self, chunk: int) -> int:
        """Bytes of one written chunk."""
        span = self.span(chunk)
        wide = self._wide(span.start, span.stop - span.start)
        return 4 * wide + _packed_size(span.stop - span.start - wide, self.bits)

    def offset(self, chunk: int) -> int:
        """Bytes of all chunks before this one."""
        border = CHUNK_LANES * chunk if self.bits == 32 else min(self.wide, CHUNK_LANES * chunk)
        mixed = border // CHUNK_LANES  # the chunk that holds the last wide lane and the first narrow one
        if mixed == chunk:
            return 4 * CHUNK_LANES * chunk
        return 4 * CHUNK_LANES * mixed + self.chunk_bytes(mixed) + (chunk - mixed - 1) * _packed_size(CHUNK_LANES, self.bits)

    def written(self, values: NDArray[np.uint32]) -> Iterator[bytes]:
        """A whole reduced vector, chunk by chunk."""
        for chunk in range(self.chunks):
            span = self.span(chunk)
            yield self.write(values[span], span.start)

    def _wide(self, start: int, count: int) -> int:
        return count if self.bits == 32 else min(max(self.wide - start, 0), count)


def _packed_size(count: int, bits: int) -> int:
    return (count + 1) // 2 * 5 if bits == 20 else count * bits // 8


def _pack(values: NDArray[np.uint32], bits: int) -> bytes:
    if bits != 20:
        return values.astype("<u4", copy=False).view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes()
    even = np.zeros((len(values) + 1) // 2 * 2, np.uint32)
    even[: len(values)] = values
    octets = np.empty(len(even) // 2 * 5, np.uint8)
    _overlapping(octets, 0)[:] = even[::2] | even[1::2] << np.uint32(20)
    octets[4::5] = even[1::2] >> np.uint32(12)
    return octets.tobytes()


def _unpack(data: bytes | memoryview, bits: int, lanes: NDArray[np.uint32]) -> None:
    octets = np.frombuffer(data, np.uint8)
    if bits != 20:
        padded = np.zeros((len(lanes), 4), np.uint8)
        padded[:, : bits // 8] = octets.reshape(len(lanes), bits // 8)
        lanes[:] = padded.view("<u4")[:, 0]
        return
    first, second = lanes[::2], lanes[1::2]
    np.bitwise_and(_overlapping(octets, 0), np.uint32(0xFFFFF), out=first)
    second[:] = (_overlapping(octets, 1) >> np.uint32(12))[: len(second)]


def _overlapping(octets: NDArray[np.uint8], offset: int) -> NDArray[np.uint32]:
    """Four bytes of every five as one little-endian number: the first lane of a pair in its low bits, or the second in its high ones."""
    return np.ndarray((len(octets) // 5,), "<u4", octets.data, offset, (5,))
