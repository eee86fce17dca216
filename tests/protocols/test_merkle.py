"""A root binds every chunk and its place: a path shows what was committed to, and nothing else."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from protocols.merkle import MerkleTree, is_in_tree, leaf_hash, merkle_root


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(bytes([number])) for number in range(count)]


@given(st.integers(1, 70), st.data())
def test_every_chunk_is_shown_by_its_path_and_no_other(count: int, data: st.DataObject) -> None:
    tree, index = leaves(count), data.draw(st.integers(0, count - 1))
    root, path = merkle_root(tree), MerkleTree(tree).path(index)
    assert is_in_tree(root, count, index, tree[index], path)
    assert not is_in_tree(root, count, index, leaf_hash(b"other"), path)
    assert not is_in_tree(root, count, index, tree[index], path + bytes(32))
    assert not path or not is_in_tree(root, count, index, tree[index], path[:-32])
    for other in set(range(-1, count + 1)) - {index}:
        assert not is_in_tree(root, count, other, tree[index], path)


@given(st.integers(1, 40), st.integers(0, 39))
def test_any_other_leaf_gives_another_root(count: int, changed: int) -> None:
    tree = leaves(count)
    other = list(tree)
    other[changed % count] = leaf_hash(b"other")
    assert merkle_root(tree) != merkle_root(other)
    assert merkle_root(tree) != merkle_root([*tree, tree[-1]])


def test_root_is_that_of_rfc_9162() -> None:
    """The tree of seven leaves, written out: ((0 1)(2 3))((4 5) 6)."""

    def node(left: bytes, right: bytes) -> bytes:
        return hashlib.sha256(b"\x01" + left + right).digest()

    tree = [hashlib.sha256(b"\x00" + bytes([number])).digest() for number in range(7)]
    left = node(node(tree[0], tree[1]), node(tree[2], tree[3]))
    assert merkle_root(leaves(7)) == node(left, node(node(tree[4], tree[5]), tree[6]))
