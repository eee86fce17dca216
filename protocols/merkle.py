"""Merkle trees over the chunks of a vector: one root commits to all, a short path shows one (RFC 9162, section 2.1)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

HASH_BYTES = 32


def leaf_hash(chunk: bytes | memoryview) -> bytes:
    """Hash of a chunk; leaves and inner nodes can never be taken for each other."""
    digest = hashlib.sha256(b"\x00")
    digest.update(chunk)
    return digest.digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Root over leaf hashes in order, at least one."""
    level = list(leaves)
    while len(level) > 1:
        level = _parents(level)
    return level[0]


class MerkleTree:
    """All nodes over leaf hashes in order, at least one, for many paths out of one tree."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._levels = [list(leaves)]
        while len(self._levels[-1]) > 1:
            self._levels.append(_parents(self._levels[-1]))

    def path(self, index: int) -> bytes:
        """The siblings of leaf `index` from the bottom up, 32 bytes each; a node without a sibling moves up as it is."""
        siblings = []
        for level in self._levels[:-1]:
            if index ^ 1 < len(level):
                siblings.append(level[index ^ 1])
            index //= 2
        return b"".join(siblings)


def is_in_tree(root: bytes, count: int, index: int, leaf: bytes, path: bytes) -> bool:
    """Whether `leaf` stands at `index` of the tree over `count` leaves with this root."""
    if not 0 <= index < count:
        return False
    siblings, node = [path[start : start + HASH_BYTES] for start in range(0, len(path), HASH_BYTES)], leaf
    while count > 1:
        if index ^ 1 < count:
            if not siblings:
                return False
            sibling = siblings.pop(0)
            node = _parent(sibling, node) if index % 2 else _parent(node, sibling)
        count, index = (count + 1) // 2, index // 2
    return not siblings and hmac.compare_digest(node, root)


def _parents(level: Sequence[bytes]) -> list[bytes]:
    pairs = [_parent(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return pairs + list(level[2 * len(pairs) :])


def _parent(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
