"""What the vectors ask of an implementation, by name: JSON in, JSON out, bytes in hexadecimal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from protocols.secagg.sum import verify_certificate

from protocols.encoding import Block, LaneLayout, encode
from protocols.epoch import EpochManifest, KeysMessage
from protocols.epoch.channel import agree
from protocols.identity import Envelope, Identity, open_envelope_of, seal_envelope, verify
from protocols.keys import Purpose, commit, derive_key
from protocols.masking import add_masks
from protocols.pack import pack
from protocols.roster import Roster
from protocols.secagg import SumManifest, SurvivorCertificate
from protocols.shamir import combine_shares, split_secret
from protocols.state import State, state_hash
from tests.fuzz.decoders import decoders
from tests.vectors.forms import from_form, to_form

_bytes = bytes.fromhex


def _pack(parts: Mapping[str, str]) -> str:
    return pack({name: _bytes(content) for name, content in parts.items()}).hex()


def _derive_key(secret: str, purpose: str, context: list[str]) -> str:
    return derive_key(_bytes(secret), Purpose[purpose], *map(_bytes, context)).hex()


def _mask(lanes: int, plus: list[str], minus: list[str]) -> str:
    vector = np.zeros(lanes, np.uint32)
    add_masks(vector, [*map(_bytes, plus)], [*map(_bytes, minus)])
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


def _encode(blocks: list[list[Any]], values: Mapping[str, Any], institutions: int, rounding: list[float]) -> dict[str, str]:
    """Lanes of blocks [name, shape, bound, integer]; `rounding` are the draws from [0, 1), one for each real value in order."""
    layout = LaneLayout(tuple(Block(name, tuple(shape), bound, integer) for name, shape, bound, integer in blocks))
    left = iter(rounding)
    draws: Any = SimpleNamespace(random=lambda size: np.array([next(left) for _ in range(size)]))
    lanes = encode({name: np.array(content, np.float64) for name, content in values.items()}, layout, institutions, draws)
    return {"layout_hash": layout.hash.hex(), "lanes": lanes.astype("<u4").tobytes().hex()}


def _state_hash(state: Mapping[str, Any]) -> str:
    tensors, momentum = ({name: np.array(v, np.float32) for name, v in state[group].items()} for group in ("tensors", "momentum"))
    experts = {layer: tuple(chosen) for layer, chosen in state["experts"]}
    return state_hash(State(state["base_sha256"], state["round"], tensors, experts, momentum)).hex()


def _agree(seed: str, keys: str) -> str:
    return agree(_bytes(seed), KeysMessage.from_bytes(_bytes(keys))).hex()


def _check_epoch(epoch: str, roster: str) -> None:
    EpochManifest.from_bytes(_bytes(epoch)).check(Roster.from_bytes(_bytes(roster)))


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
    "state_hash": _state_hash,
    "agree": _agree,
    "check_epoch": _check_epoch,
    "verify_certificate": _verify_certificate,
    "decode": _decode,
}
