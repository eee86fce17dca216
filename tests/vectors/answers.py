"""Known answers of single operations: [operation, inputs], and those whose results come from publications."""

from __future__ import annotations

from typing import Any

from protocols.keys import Purpose
from protocols.shamir import PRIME

SEED = bytes(range(32)).hex()
BLOCKS = [["delta", [2, 2], 0.5, False], ["count", [1], 1000.0, True]]
STATE = {
    "base_sha256": "ab" * 32,
    "round": 3,
    "experts": [[1, [0, 2]], [4, [7]]],
    "tensors": {"a.lora_A": [[0.5, -1.0, 0.0]], "b.lora_B": [[1.5], [2.0]]},
    "momentum": {"a.lora_A": [[0.0, 0.25, -0.125]]},
}
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
        ("split", {"secret": "00" * 31 + "07", "threshold": 2, "members": 3, "draws": ["00" * 55 + "05"]}),
        ("split", {"secret": "ff" * 32, "threshold": 3, "members": 5, "draws": ["ff" * 56, SEED + "01" * 24]}),
        ("combine", {"shares": {"1": "00" * 32 + "0c", "3": "00" * 32 + "16"}}),
        ("combine", {"shares": {"2": (PRIME - 1).to_bytes(33, "big").hex(), "4": (PRIME - 2).to_bytes(33, "big").hex()}}),
        ("sign", {"seed": SEED, "message": "636f6e736f727469756d"}),
        ("seal_envelope", {"seed": SEED, "envelope": ENVELOPE}),
        (
            "encode",
            {
                "blocks": BLOCKS,
                "values": {"delta": [[0.5, -0.5], [0.1, -0.1]], "count": [-1000]},
                "institutions": 4,
                "rounding": [0.0, 0.5, 0.25, 0.75],
            },
        ),
        ("state_hash", {"state": STATE}),
        ("state_hash", {"state": STATE | {"experts": [], "tensors": {}, "momentum": {}}}),
    ]


def published() -> list[tuple[str, str, dict[str, Any], Any]]:
    """[source, operation, inputs, result], from outside of our code."""
    blocks = "dc95c078a2408989ad48a21492842087" + "530f8afbc74536b9a963b4f1c4cb738b" + "cea7403d4d606b6e074ec5d3baf39d18"
    return [
        ("AES-256 of counter blocks 0 to 2 under the zero key: H, tag and ciphertext of cases 13 and 14 of McGrew and Viega, GCM",
         "mask", {"lanes": 12, "plus": ["00" * 32], "minus": []}, blocks),
        *(("RFC 8032, 7.1, test " + number, "sign", {"seed": seed, "message": message}, {"public_key": key, "signature": signature})
          for number, seed, message, key, signature in _RFC_8032),
        ("Shamir 1979 over the integers: 7 + 5x at 1, 2 and 3",
         "split", {"secret": "00" * 31 + "07", "threshold": 2, "members": 3, "draws": ["00" * 55 + "05"]},
         ["00" * 32 + "0c", "00" * 32 + "11", "00" * 32 + "16"]),
    ]  # fmt: skip


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
