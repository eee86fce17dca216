"""What the vectors ask of an implementation, by name: JSON in, JSON out, bytes in hexadecimal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocols.chain import ChainHead, check_extension, link
from protocols.encoding import Block, LaneLayout, encode
from protocols.epoch import Confirmation, EpochCertificate, EpochManifest, KeysMessage, ShownRow, check_pair_seed
from protocols.epoch.channel import agree
from protocols.epoch.published import commit_row
from protocols.identity import Envelope, Identity, open_envelope_of, seal_envelope, verify
from protocols.keys import Purpose, commit, derive_key
from protocols.lanes import LaneFormat
from protocols.masking import add_masks
from protocols.merkle import MerkleTree, is_in_tree, leaf_hash, merkle_root
from protocols.pack import pack
from protocols.roster import Roster
from protocols.secagg import SumManifest, SurvivorCertificate, UploadRoot, check_root, sign_root, verify_certificate
from protocols.shamir import combine_shares, split_secret
from protocols.state import PreRound, State, state_hash
from tests.fuzz.decoders import decoders
from tests.vectors.forms import from_form, to_form

_bytes = bytes.fromhex


def _pack(parts: Mapping[str, str]) -> str:
    return pack({name: _bytes(content) for name, content in parts.items()}).hex()


def _derive_key(secret: str, purpose: str, context: list[str]) -> str:
    return derive_key(_bytes(secret), Purpose[purpose], *map(_bytes, context)).hex()


def _mask(lanes: int, plus: list[str], minus: list[str], start: int = 0) -> str:
    vector = np.zeros(lanes, np.uint32)
    add_masks(vector, [*map(_bytes, plus)], [*map(_bytes, minus)], start)
    return vector.astype("<u4").tobytes().hex()


def _split(secret: str, threshold: int, members: int, draws: list[str]) -> list[str]:
    left = iter(draws)
    return [share.hex() for share in split_secret(_bytes(secret), threshold, members, lambda _: _bytes(next(left)))]


def _combine(shares: Mapping[str, str]) -> str:
    return combine_shares({int(number): _bytes(share) for number, share in shares.items()}).hex()


def _sign(seed: str, message: str) -> dict[str, str]:
    identity = Identity("signer", _bytes(seed))
    return {"public_key": identity.public_key.hex(), "signature": identity.sign(_bytes(message)).hex()}


def _verify(public_key: str, message: str, signature: str) -> None:
    verify(_bytes(public_key), _bytes(message), _bytes(signature))


def _seal_envelope(seed: str, envelope: Mapping[str, Any]) -> str:
    read: Envelope = from_form(Envelope, envelope)
    return seal_envelope(Identity(read.sender, _bytes(seed)), read).hex()


def _open_envelope(public_key: str, data: str) -> Any:
    return to_form(open_envelope_of(_bytes(data), _bytes(public_key)))


def _encode(blocks: list[list[Any]], values: Mapping[str, Any], institutions: int, rounding: list[float], bits: int = 32) -> dict[str, Any]:
    """Lanes of blocks [name, shape, bound, integer, narrow]; `rounding` are the draws from [0, 1), one for each real value in order."""
    layout = LaneLayout(tuple(Block(name, tuple(shape), *rest) for name, shape, *rest in blocks), bits)
    lanes = encode({name: np.array(content, np.float64) for name, content in values.items()}, layout, institutions, _Drawn(rounding))
    return {"layout_hash": layout.hash.hex(), "written": [chunk.hex() for chunk in layout.format.written(lanes)]}


class _Drawn(np.random.Generator):
    """Draws what it was given."""

    def __init__(self, numbers: list[float]) -> None:
        super().__init__(np.random.PCG64(0))
        self._numbers = iter(numbers)

    def random(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        for place in range(len(out)):
            out[place] = next(self._numbers)
        return out


def _write_lanes(size: int, wide: int, bits: int, values: list[int]) -> list[str]:
    return [chunk.hex() for chunk in LaneFormat(size, wide, bits).written(np.array(values, np.uint32))]


def _read_chunk(size: int, wide: int, bits: int, chunk: int, data: str) -> list[int]:
    lanes = LaneFormat(size, wide, bits)
    lanes.check()
    values: list[int] = lanes.read(_bytes(data), chunk).tolist()
    return values


def _tree(chunks: list[str]) -> dict[str, Any]:
    leaves = [leaf_hash(_bytes(chunk)) for chunk in chunks]
    return {"root": merkle_root(leaves).hex(), "paths": [MerkleTree(leaves).path(index).hex() for index in range(len(leaves))]}


def _in_tree(root: str, count: int, index: int, chunk: str, path: str) -> bool:
    return is_in_tree(_bytes(root), count, index, leaf_hash(_bytes(chunk)), _bytes(path))


def _chain(head: str, events: list[str]) -> list[str]:
    links = [_bytes(head)]
    for event in events:
        links.append(link(links[-1], _bytes(event)))
    return [one.hex() for one in links[1:]]


def _check_extension(start: list[Any], digests: str, end: list[Any]) -> None:
    """Heads are [length, hash]."""
    first, last = (ChainHead(length, _bytes(digest)) for length, digest in (start, end))
    check_extension(first, _bytes(digests), last)


def _state_hash(state: Mapping[str, Any]) -> str:
    tensors, momentum = ({name: np.array(v, np.float32) for name, v in state[group].items()} for group in ("tensors", "momentum"))
    before = state.get("pre_round")
    pre_round = PreRound(_experts(before["kept"]), tuple(before["members"]), before["threshold"]) if before else None
    return state_hash(State(state["base_sha256"], state["round"], tensors, _experts(state["experts"]), momentum, pre_round=pre_round)).hex()


def _experts(listed: list[Any]) -> dict[int, tuple[int, ...]]:
    return {layer: tuple(chosen) for layer, chosen in listed}


def _agree(seed: str, keys: str) -> str:
    return agree(X25519PrivateKey.from_private_bytes(_bytes(seed)), KeysMessage.from_bytes(_bytes(keys))).hex()


def _commit_row(epoch: str, member: str, seeds: Mapping[str, str]) -> str:
    return commit_row(EpochManifest.from_bytes(_bytes(epoch)), member, {name: _bytes(seed) for name, seed in seeds.items()}).hex()


def _check_pair_seed(epoch: str, certificate: str, member: str, other: str, slot: int, shown: str, seed: str) -> None:
    terms = EpochManifest.from_bytes(_bytes(epoch)), EpochCertificate.from_bytes(_bytes(certificate))
    check_pair_seed(*terms, member, other, slot, ShownRow.from_bytes(_bytes(shown)), _bytes(seed))


def _check_epoch(epoch: str, roster: str, coordinator: str) -> None:
    EpochManifest.from_bytes(_bytes(epoch)).check(Roster.from_bytes(_bytes(roster)), _bytes(coordinator))


def _check_manifest(manifest: str, epoch: str, coordinator: str) -> None:
    SumManifest.from_bytes(_bytes(manifest)).check(EpochManifest.from_bytes(_bytes(epoch)), _bytes(coordinator))


def _sign_root(seed: str, sender: str, manifest: str, chunks: list[str]) -> str:
    leaves = [leaf_hash(_bytes(chunk)) for chunk in chunks]
    return sign_root(SumManifest.from_bytes(_bytes(manifest)), leaves, Identity(sender, _bytes(seed))).to_bytes().hex()


def _check_root(manifest: str, roster: str, root: str) -> None:
    terms = SumManifest.from_bytes(_bytes(manifest)), Roster.from_bytes(_bytes(roster))
    check_root(*terms, UploadRoot.from_bytes(_bytes(root)))


def _verify_certificate(manifest: str, epoch: str, roster: str, certificate: str) -> None:
    terms = SumManifest.from_bytes(_bytes(manifest)), EpochManifest.from_bytes(_bytes(epoch)), Roster.from_bytes(_bytes(roster))
    verify_certificate(*terms, SurvivorCertificate.from_bytes(_bytes(certificate)))


def _decode(decoder: str, data: str) -> None:
    decoders()[decoder].decode(_bytes(data))


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "pack": _pack,
    "derive_key": _derive_key,
    "commit": lambda kind, secret: commit(kind, _bytes(secret)).hex(),
    "mask": _mask,
    "split": _split,
    "combine": _combine,
    "sign": _sign,
    "verify": _verify,
    "seal_envelope": _seal_envelope,
    "open_envelope": _open_envelope,
    "encode": _encode,
    "write_lanes": _write_lanes,
    "read_chunk": _read_chunk,
    "tree": _tree,
    "in_tree": _in_tree,
    "chain": _chain,
    "check_extension": _check_extension,
    "state_hash": _state_hash,
    "agree": _agree,
    "commit_row": _commit_row,
    "published": lambda confirmation: Confirmation.from_bytes(_bytes(confirmation)).published.hex(),
    "check_pair_seed": _check_pair_seed,
    "check_epoch": _check_epoch,
    "check_manifest": _check_manifest,
    "sign_root": _sign_root,
    "check_root": _check_root,
    "verify_certificate": _verify_certificate,
    "decode": _decode,
}
