"""Bytes of an upload and of a total as they come from elsewhere: written chunks, whole totals, paths, and parts for the disk."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coordinator.spool import Spool
from protocols.codec import Message
from protocols.errors import ProtocolError
from protocols.lanes import LANE_BITS, LaneFormat
from protocols.merkle import MerkleTree, is_in_tree, leaf_hash, merkle_root
from protocols.secagg import SumManifest, UploadRoot, read_total, sign_root
from tests.fuzz.memory import folder_in_memory
from tests.fuzz.samples import conversation

FORMATS = [LaneFormat(size, wide, bits) for bits in LANE_BITS for size, wide in ((0, 0), (7, 2), (6, 0))]


@dataclass(frozen=True)
class WrittenChunk(Message):
    """A chunk and the format that it is said to have."""

    lanes: LaneFormat
    chunk: int
    data: bytes

    def use(self) -> None:
        self.lanes.check()
        if self.chunk >= self.lanes.chunks:
            raise ProtocolError("there is no such chunk")
        values = self.lanes.read(self.data, self.chunk)
        assert self.lanes.write(values, self.lanes.span(self.chunk).start) == self.data


@dataclass(frozen=True)
class WrittenTotal(Message):
    """A total and the format that it is said to have."""

    lanes: LaneFormat
    written: bytes

    def use(self) -> None:
        self.lanes.check()
        assert b"".join(self.lanes.written(read_total(self.lanes, self.written))) == self.written


@dataclass(frozen=True)
class ShownLeaf(Message):
    """What `is_in_tree` is asked."""

    root: bytes
    count: int
    index: int
    leaf: bytes
    path: bytes

    def use(self) -> None:
        shown = is_in_tree(self.root, self.count, self.index, self.leaf, self.path)
        assert isinstance(shown, bool)
        if not shown:
            raise ProtocolError("the leaf is not in the tree")


@dataclass(frozen=True)
class SentUpload(Message):
    """A root and the parts that follow it."""

    root: UploadRoot
    parts: tuple[bytes, ...]

    def use(self) -> None:
        with tempfile.TemporaryDirectory(dir=folder_in_memory()) as folder:
            spool = Spool(Path(folder), narrow_manifest(), conversation().cohort.roster)
            spool.begin(self.root)
            for part in self.parts:
                spool.append(memoryview(part))
            finished, stored = spool.finish(), spool.stored()
            assert stored is not None and list(finished.chunks) == list(stored.chunks)


@cache
def narrow_manifest() -> SumManifest:
    """Of a sum of seven lanes, the last five of 20 bits."""
    done = conversation()
    return replace(done.manifest, lanes=LaneFormat(7, 2, 20)).signed_by(done.cohort.coordinator.sign)


def written_chunks() -> list[bytes]:
    return [WrittenChunk(lanes, 0, next(lanes.written(_lanes(lanes)))).to_bytes() for lanes in FORMATS]


def written_totals() -> list[bytes]:
    return [WrittenTotal(lanes, b"".join(lanes.written(_lanes(lanes)))).to_bytes() for lanes in FORMATS]


def shown_leaves() -> list[bytes]:
    """Of trees of one, two and seven leaves."""
    trees = [[leaf_hash(bytes([number])) for number in range(count)] for count in (1, 2, 7)]
    return [_last_leaf(tree).to_bytes() for tree in trees]


def _last_leaf(tree: list[bytes]) -> ShownLeaf:
    last = len(tree) - 1
    return ShownLeaf(merkle_root(tree), len(tree), last, tree[last], MerkleTree(tree).path(last))


def sent_uploads() -> list[bytes]:
    manifest = narrow_manifest()
    chunks = list(manifest.lanes.written(_lanes(manifest.lanes)))
    root = sign_root(manifest, [leaf_hash(chunk) for chunk in chunks], conversation().cohort.identities["ada"])
    return [SentUpload(root, tuple(chunks)).to_bytes()]


def _lanes(lanes: LaneFormat) -> NDArray[np.uint32]:
    values = np.random.default_rng(lanes.size).integers(0, 2**32, lanes.size, dtype=np.uint32)
    lanes.reduce(values)
    return values
