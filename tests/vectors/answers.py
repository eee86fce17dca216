"""Known answers of single operations: [operation, inputs], and those whose results come from publications."""

from __future__ import annotations

from random import Random
from typing import Any

from protocols.keys import Purpose
from protocols.lanes import LANE_BITS
from protocols.merkle import MerkleTree, leaf_hash, merkle_root
from protocols.shamir import PRIME
from tests.protocols.secagg.cohort import Sum

SEED = bytes(range(32)).hex()
BLOCKS = [["delta", [2, 2], 0.5, False, True], ["weight", [1], 2.0, False, False], ["count", [1], 1000.0, True, False]]
VALUES = {"delta": [[0.5, -0.5], [0.1, -0.1]], "weight": [1.5], "count": [-1000]}
STATE = {
    "base_sha256": "ab" * 32,
    "round": 3,
    "experts": [[1, [0, 2]], [4, [7]]],
    "tensors": {"a.lora_A": [[0.5, -1.0, 0.0]], "b.lora_B": [[1.5], [2.0]]},
    "momentum": {"a.lora_A": [[0.0, 0.25, -0.125]]},
}
PRE_ROUND = {"kept": [[1, [2]], [4, [7]]], "members": ["ada", "bio", "cor"], "threshold": 3}
ENVELOPE = {
    "sender": "ada",
    "recipient": "coordinator",
    "run": "run",
    "round": 1,
    "attempt": 2,
    "stage": "update/train.sum",
    "manifest_hash": "11" * 32,
    "incarnation": 1,
    "payload": "00ff",
}


def computed() -> list[tuple[str, dict[str, Any]]]:
    """Inputs whose results our own code writes down."""
    return [
        ("pack", {"parts": {}}),
        ("pack", {"parts": {"": ""}}),
        ("pack", {"parts": {"b": "01", "a": "00ff", "é": "", "ab": "02"}}),
        *(("derive_key", {"secret": SEED, "purpose": purpose.name, "context": ["11" * 32, "616461"]}) for purpose in Purpose),
        ("derive_key", {"secret": SEED, "purpose": "SEAL", "context": ["6161", "62"]}),
        ("derive_key", {"secret": SEED, "purpose": "SEAL", "context": ["61", "6162"]}),
        *(("commit", {"kind": kind, "secret": SEED}) for kind in ("share", "self seed", "recovery secret")),
        ("mask", {"lanes": 9, "plus": [SEED], "minus": []}),
        ("mask", {"lanes": 9, "plus": [SEED, "01" * 32], "minus": ["02" * 32]}),
        ("mask", {"lanes": 5, "plus": [SEED], "minus": [], "start": 4}),
        ("mask", {"lanes": 5, "plus": [], "minus": [SEED], "start": 2**34}),
        ("split", {"secret": "00" * 31 + "07", "threshold": 2, "members": 3, "draws": ["00" * 55 + "05"]}),
        ("split", {"secret": "ff" * 32, "threshold": 3, "members": 5, "draws": ["ff" * 56, SEED + "01" * 24]}),
        ("combine", {"shares": {"1": "00" * 32 + "0c", "3": "00" * 32 + "16"}}),
        ("combine", {"shares": {"2": (PRIME - 1).to_bytes(33, "big").hex(), "4": (PRIME - 2).to_bytes(33, "big").hex()}}),
        ("sign", {"seed": SEED, "message": "636f6e736f727469756d"}),
        ("seal_envelope", {"seed": SEED, "envelope": ENVELOPE}),
        *(
            ("encode", {"blocks": BLOCKS, "values": VALUES, "institutions": 4, "rounding": [0.25, 0.0, 0.5, 0.25, 0.75], "bits": bits})
            for bits in LANE_BITS
        ),
        *(("write_lanes", {"size": 7, "wide": 2, "bits": bits, "values": _lanes(7, 2, bits)}) for bits in LANE_BITS),
        ("write_lanes", {"size": 0, "wide": 0, "bits": 20, "values": []}),
        ("write_lanes", {"size": 4098, "wide": 4095, "bits": 20, "values": _lanes(4098, 4095, 20)}),
        *(("tree", {"chunks": [f"{number:02x}" for number in range(count)]}) for count in (1, 2, 3, 7)),
        ("chain", {"head": "00" * 32, "events": ["", "6576656e74", "6576656e74"]}),
        ("state_hash", {"state": STATE | {"pre_round": PRE_ROUND}}),
        ("state_hash", {"state": STATE}),
        ("state_hash", {"state": STATE | {"experts": [], "tensors": {}, "momentum": {}}}),
    ]


def of_a_sum(done: Sum) -> list[tuple[str, dict[str, Any]]]:
    """Inputs that are messages of the sum in `sum.json`."""
    cohort, manifest, state = done.cohort, done.manifest, done.states["ada"]
    epoch, coordinator = cohort.epoch.to_bytes().hex(), cohort.coordinator.public_key.hex()
    confirmation, seeds = done.setup.confirmations["ada"], {name: slots[0].hex() for name, slots in state.pair_seeds.items()}
    shown = {"member": "ada", "other": "bio", "slot": 0, "shown": confirmation.shown(0).to_bytes().hex(), "seed": seeds["bio"]}
    return [
        ("check_epoch", {"epoch": epoch, "roster": cohort.roster.to_bytes().hex(), "coordinator": coordinator}),
        ("commit_row", {"epoch": epoch, "member": "ada", "seeds": seeds}),
        ("published", {"confirmation": confirmation.to_bytes().hex()}),
        ("check_pair_seed", {"epoch": epoch, "certificate": done.setup.to_bytes().hex(), **shown}),
        ("check_manifest", {"manifest": manifest.to_bytes().hex(), "epoch": epoch, "coordinator": coordinator}),
        ("sign_root", {"seed": SEED, "sender": "ada", "manifest": manifest.to_bytes().hex(), "chunks": ["00" * 12]}),
    ]


def published() -> list[tuple[str, str, dict[str, Any], Any]]:
    """[source, operation, inputs, result], from outside of our code."""
    blocks = "dc95c078a2408989ad48a21492842087" + "530f8afbc74536b9a963b4f1c4cb738b" + "cea7403d4d606b6e074ec5d3baf39d18"
    return [
        ("AES-256 of counter blocks 0 to 2 under the zero key: H, tag and ciphertext of cases 13 and 14 of McGrew and Viega, GCM",
         "mask", {"lanes": 12, "plus": ["00" * 32], "minus": []}, blocks),
        ("AES-256 of counter blocks 1 and 2 under the zero key, as above",
         "mask", {"lanes": 8, "plus": ["00" * 32], "minus": [], "start": 4}, blocks[32:]),
        ("SHA-256 of a zero byte (RFC 9162, 2.1.1: the leaf hash of nothing)",
         "tree", {"chunks": [""]}, {"root": "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d", "paths": [""]}),
        ("By hand: 1, 0xabcde and 0xfffff in 20 bits, two lanes in five bytes, the first one low",
         "write_lanes", {"size": 3, "wide": 0, "bits": 20, "values": [1, 0xABCDE, 0xFFFFF]}, ["0100e0cdabffff0f0000"]),
        ("By hand: 1 in 32 bits, then 0xabcdef in 24, little-endian",
         "write_lanes", {"size": 2, "wide": 1, "bits": 24, "values": [1, 0xABCDEF]}, ["01000000efcdab"]),
        *(("RFC 9162, 2.1.3.2: " + case, "in_tree", inputs, shown) for case, inputs, shown in _paths()),
        *(("RFC 8032, 7.1, test " + number, "sign", {"seed": seed, "message": message}, {"public_key": key, "signature": signature})
          for number, seed, message, key, signature in _RFC_8032),
        ("Shamir 1979 over the integers: 7 + 5x at 1, 2 and 3",
         "split", {"secret": "00" * 31 + "07", "threshold": 2, "members": 3, "draws": ["00" * 55 + "05"]},
         ["00" * 32 + "0c", "00" * 32 + "11", "00" * 32 + "16"]),
    ]  # fmt: skip


def _paths() -> list[tuple[str, dict[str, Any], bool]]:
    """Around the third of the chunks 00, 01 and 02."""
    leaves = [leaf_hash(bytes([number])) for number in range(3)]
    path = MerkleTree(leaves).path(2).hex()
    third = {"root": merkle_root(leaves).hex(), "count": 3, "index": 2, "chunk": "02", "path": path}
    inner = {"root": merkle_root(leaves).hex(), "count": 2, "index": 0, "chunk": (leaves[0] + leaves[1]).hex(), "path": leaves[2].hex()}
    return [
        ("a chunk in its place", third, True),
        ("another chunk", third | {"chunk": "01"}, False),
        ("another place", third | {"index": 1}, False),
        ("a place beyond the last", third | {"index": 3}, False),
        ("a tree of more chunks", third | {"count": 4}, False),
        ("a longer path", third | {"path": path + "00" * 32}, False),
        ("no path", third | {"path": ""}, False),
        ("half a sibling", third | {"path": path[:32]}, False),
        ("an inner node as a chunk", inner, False),
    ]


def _lanes(size: int, wide: int, bits: int) -> list[int]:
    draws = Random(size)
    return [draws.getrandbits(32 if place < wide else bits) for place in range(size)]


_RFC_8032 = (
    (
        "1",
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "2",
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "72",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "3",
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "af82",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
)
