"""A member's masked vector: written in chunks, with one signed root over all of them (PROTOCOL, section 3; Bonawitz et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.codec import Message
from protocols.epoch import EpochState
from protocols.errors import ProtocolError
from protocols.identity import Identity, verify
from protocols.keys import Purpose, derive_key
from protocols.lanes import CHUNK_LANES, LaneFormat
from protocols.masking import TILE, Masks
from protocols.merkle import leaf_hash, merkle_root
from protocols.roster import Roster
from protocols.secagg.manifest import SumManifest, check_epoch

PART_CHUNKS = 1920  # 31.5 MB of wide lanes: a message of an upload stays below 32 MB; a multiple of a tile's 16 chunks


@dataclass(frozen=True)
class UploadRoot(Message):
    """The Merkle root over a masked vector's chunks, with its sender's signature on manifest and root."""

    sender: str
    root: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Upload:
    """A masked vector as it is sent."""

    root: UploadRoot
    chunks: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class CheckedUpload:
    """An upload whose chunks are those that its sender signed; only `check_upload` makes one."""

    sender: str
    root: bytes
    chunks: Iterable[bytes]


def mask_input(epoch: EpochState, manifest: SumManifest, vector: NDArray[np.uint32], identity: Identity) -> Upload:
    """The whole upload in memory; `mask_chunks` and `sign_root` are its two halves for vectors that are written to a file."""
    chunks = list(mask_chunks(epoch, manifest, vector))
    return Upload(sign_root(manifest, [leaf_hash(chunk) for chunk in chunks], identity), chunks)


def mask_chunks(epoch: EpochState, manifest: SumManifest, vector: NDArray[np.uint32], part: int | None = None) -> Iterator[bytes]:
    """y_u = x_u + PRG(b_u) + sum over v > u of PRG(p_uv) - sum over v < u of PRG(p_uv), modulo 2^bits, as written chunks.

    Args:
        vector: uint32 [size], reduced.
        part: the message whose chunks are wanted; None for all of them.

    Raises:
        ProtocolError: the manifest is for another epoch, slot or size, or the slot's secrets are erased.
    """
    lanes = manifest.lanes
    check_epoch(epoch.manifest, manifest)
    check_slot(epoch, manifest.slot)
    if vector.shape != (lanes.size,) or vector.dtype != np.uint32:
        raise ProtocolError(f"the vector has {vector.size} lanes and the manifest asks for {lanes.size}")
    plus, minus = pair_keys(epoch.sender, {name: seeds[manifest.slot] for name, seeds in epoch.pair_seeds.items()}, manifest)
    first, end = (0, lanes.size) if part is None else _lanes_of(part, lanes.size)
    masks = Masks([self_key(epoch.self_seeds[manifest.slot], manifest), *plus], minus, first)
    for start in range(first, end, TILE) or (0,):
        tile = np.array(vector[start : min(start + TILE, end)], np.uint32)
        masks.add_to(tile)
        lanes.reduce(tile, start)
        for begin in range(0, len(tile), CHUNK_LANES) or (0,):
            yield lanes.write(tile[begin : begin + CHUNK_LANES], start + begin)


def chunks_of(lanes: LaneFormat, part: int) -> range:
    """The numbers of the chunks that a message of an upload holds; none after the last message."""
    return range(part * PART_CHUNKS, min((part + 1) * PART_CHUNKS, lanes.chunks))


def bytes_of_part(lanes: LaneFormat, part: int) -> slice:
    """Where the chunks of a message, which must have some, lie in the written vector."""
    chunks = chunks_of(lanes, part)
    return slice(lanes.offset(chunks[0]), lanes.offset(chunks[-1]) + lanes.chunk_bytes(chunks[-1]))


def parts_of(lanes: LaneFormat) -> int:
    """Messages that an upload takes."""
    return -(-lanes.chunks // PART_CHUNKS)


def sign_root(manifest: SumManifest, leaves: Sequence[bytes], identity: Identity) -> UploadRoot:
    """The sender's commitment to the chunks with these leaf hashes."""
    root = merkle_root(leaves)
    return UploadRoot(identity.name, root, identity.sign(_signed_root(manifest, root)))


def check_root(manifest: SumManifest, roster: Roster, root: UploadRoot) -> None:
    """Raises SignatureError unless the sender signed this root for this manifest."""
    verify(roster.key_of(root.sender), _signed_root(manifest, root.root), root.signature, root.sender)


def check_upload(
    manifest: SumManifest, roster: Roster, root: UploadRoot, chunks: Iterable[bytes], leaves: Sequence[bytes]
) -> CheckedUpload:
    """An upload with all of its chunks, whose leaf hashes are `leaves`.

    Raises:
        ProtocolError, SignatureError: it is incomplete, or not what its sender signed.
    """
    check_root(manifest, roster, root)
    if len(leaves) != manifest.lanes.chunks or merkle_root(leaves) != root.root:
        raise ProtocolError(f"the input of {root.sender} is not the one that it signed")
    return CheckedUpload(root.sender, root.root, chunks)


def self_key(seed: bytes, manifest: SumManifest) -> bytes:
    """Key of a member's own mask in one sum."""
    return derive_key(seed, Purpose.SELF_MASK, manifest.hash)


def pair_keys(member: str, seeds: Mapping[str, bytes], manifest: SumManifest) -> tuple[list[bytes], list[bytes]]:
    """Mask keys that a member adds (towards names after its own) and subtracts."""
    keys = {name: derive_key(seed, Purpose.PAIR_MASK, manifest.hash) for name, seed in seeds.items()}
    return [key for name, key in keys.items() if name > member], [key for name, key in keys.items() if name < member]


def check_slot(epoch: EpochState, slot: int) -> None:
    """Raises ProtocolError if the slot's secrets are gone."""
    if not epoch.self_seeds[slot]:
        raise ProtocolError(f"the secrets of slot {slot} were erased with an earlier sum; take a later slot")


def _lanes_of(part: int, size: int) -> tuple[int, int]:
    return part * PART_CHUNKS * CHUNK_LANES, min((part + 1) * PART_CHUNKS * CHUNK_LANES, size)


def _signed_root(manifest: SumManifest, root: bytes) -> bytes:
    return b"consortium input signature 2\0" + manifest.hash + root
