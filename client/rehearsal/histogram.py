"""Lanes of a vector in bins over all that a lane can hold: what the coordinator sees of one institution beside what it hides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.lanes import LaneFormat

BINS = 16
BAR = 28  # characters of the longest bar


@dataclass(frozen=True, slots=True)
class Histograms:
    """Counts [BINS] over a lane's range from -1/2 to 1/2 of its modulus; of the update none where it must not be shown."""

    masked: tuple[int, ...]
    update: tuple[int, ...] | None

    def lines(self) -> list[str]:
        """Both side by side."""
        titles = ("masked, as the coordinator sees it", "the update, which it does not see" if self.update else "")
        lines = [f"{'lane / modulus':>16}  {titles[0]:<{BAR + 10}} {titles[1]}".rstrip()]
        left, right = _bars(self.masked), _bars(self.update) if self.update else [""] * BINS
        for number in range(BINS):
            lines.append(
                f"{number / BINS - 0.5:+8.3f}{(number + 1) / BINS - 0.5:+8.3f}  {left[number]:<{BAR + 10}} {right[number]}".rstrip()
            )
        return lines


def lane_counts(vector: NDArray[np.uint32], lanes: LaneFormat) -> tuple[int, ...]:
    """How many of a reduced vector's lanes, read as signed numbers, lie in each bin; each lane over its own modulus."""
    counts = np.zeros(BINS, np.int64)
    for values, bits in ((vector[: lanes.wide], 32), (vector[lanes.wide :], lanes.bits)):
        bins = values >> np.uint32(bits - BINS.bit_length() + 1)
        counts += np.bincount((bins + BINS // 2) % BINS, minlength=BINS)
    return tuple(counts.tolist())


def masked_counts(chunks: bytes, first: int, lanes: LaneFormat) -> NDArray[np.int64]:
    """The same of consecutive written chunks, from number `first` on, int64 [BINS]: what was sent is read again."""
    counts, start, number = np.zeros(BINS, np.int64), 0, first
    while start < len(chunks):
        size = lanes.chunk_bytes(number)
        values, span = lanes.read(chunks[start : start + size], number), lanes.span(number)
        part = LaneFormat(len(values), min(max(lanes.wide - span.start, 0), len(values)), lanes.bits)
        counts += np.array(lane_counts(values, part))
        start, number = start + size, number + 1
    return counts


def _bars(counts: tuple[int, ...]) -> list[str]:
    most = max(*counts, 1)
    return [f"{'█' * round(BAR * count / most):<{BAR}} {count}" for count in counts]
