"""The running sum of masked inputs, and the plain sum that is left once the opened masks are taken out."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from protocols.errors import EncodingError, ProtocolError
from protocols.masking import TILE, Masks
from protocols.scratch import Scratch
from protocols.secagg.inputs import CheckedUpload, pair_keys, self_key
from protocols.secagg.manifest import SumManifest
from protocols.secagg.opening import OpenedSeeds


class Accumulator:
    """One vector, in `scratch` or the process's own memory, however many institutions send."""

    def __init__(self, manifest: SumManifest, scratch: Scratch | None = None) -> None:
        self.manifest = manifest
        self.total: NDArray[np.uint32] = (scratch or Scratch()).zeros(manifest.lanes.size, np.uint32)
        self.roots: dict[str, bytes] = {}

    def add(self, upload: CheckedUpload) -> None:
        """Adds one input, whole or not at all.

        Raises:
            ProtocolError: its sender's is already in the sum. EncodingError: a chunk is no lanes, though it was signed.
        """
        if upload.sender in self.roots:
            raise ProtocolError(f"{upload.sender} has already sent its input")
        added = 0
        try:
            for number, chunk in enumerate(upload.chunks):
                self.total[self.manifest.lanes.span(number)] += self.manifest.lanes.read(chunk, number)
                added += 1
        except EncodingError:
            self._take_out(upload, added)
            raise
        self.roots[upload.sender] = upload.root

    def _take_out(self, upload: CheckedUpload, chunks: int) -> None:
        lanes = self.manifest.lanes
        for number, chunk in itertools.islice(enumerate(upload.chunks), chunks):
            self.total[lanes.span(number)] -= lanes.read(chunk, number)


def remove_masks(accumulator: Accumulator, opened: OpenedSeeds) -> NDArray[np.uint32]:
    """The plain sum, uint32 [size], in the accumulator's own memory, which is used up."""
    total, lanes = accumulator.total, accumulator.manifest.lanes
    masks = left_masks(accumulator.manifest, opened)
    for start in range(0, len(total), TILE):
        tile = total[start : start + TILE]
        masks.add_to(tile)
        lanes.reduce(tile, start)
    return total


def left_masks(manifest: SumManifest, opened: OpenedSeeds, start: int = 0) -> Masks:
    """The masks that did not cancel, with the signs that take them out, from lane `start` on."""
    plus, minus = [], [self_key(seed, manifest) for seed in opened.self_seeds.values()]
    for name, seeds in opened.pair_seeds.items():
        # The member that is missing would have cancelled these, so its own signs are what is to be added.
        added, subtracted = pair_keys(name, seeds, manifest)
        plus += added
        minus += subtracted
    return Masks(plus, minus, start)
