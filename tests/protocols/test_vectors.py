"""Known answers in both directions: our code writes each byte string and reads it back, and refuses each hostile input as it is named."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocols.errors import ConsortiumError
from protocols.keys import Purpose, derive_key
from tests.fuzz.samples import message_kinds
from tests.vectors.forms import from_form, to_form
from tests.vectors.make import FOLDER
from tests.vectors.operations import OPERATIONS
from tests.vectors.replay import read_randomness, replayed_sum, sum_vector

REMAKE = "formats changed: run python -m tests.vectors.make and read its diff"


def vectors(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("vector", vectors("operations"), ids=lambda vector: vector["operation"])
def test_an_operation_gives_its_known_answer(vector: dict[str, Any]) -> None:
    assert OPERATIONS[vector["operation"]](**vector["inputs"]) == vector["result"], vector["source"] or REMAKE


@pytest.mark.parametrize("vector", vectors("messages"), ids=lambda vector: vector["kind"])
def test_a_message_is_written_and_read_as_known(vector: dict[str, Any]) -> None:
    kind = {kind.__name__: kind for kind in message_kinds()}[vector["kind"]]
    message, data = from_form(kind, vector["fields"]), bytes.fromhex(vector["bytes"])
    assert message.to_bytes() == data and message.hash.hex() == vector["hash"], REMAKE
    assert to_form(kind.from_bytes(data)) == vector["fields"]


def test_every_message_that_travels_has_its_vector() -> None:
    travelling = {kind.__name__ for kind in message_kinds() if not kind.__name__.endswith("State")}
    assert {vector["kind"] for vector in vectors("messages")} == travelling, REMAKE


@pytest.mark.parametrize("vector", vectors("hostile"), ids=lambda vector: vector["name"])
def test_a_hostile_input_is_refused_as_named(vector: dict[str, Any]) -> None:
    with pytest.raises(ConsortiumError) as raised:
        OPERATIONS[vector["operation"]](**vector["inputs"])
    assert type(raised.value).__name__ == vector["error"]


def test_a_whole_sum_is_reproduced_byte_for_byte() -> None:
    vector = vectors("sum")
    randomness = read_randomness(vector)
    assert sum_vector(replayed_sum(randomness), randomness) == vector, REMAKE


def test_an_upload_is_its_input_and_its_masks() -> None:
    vector = vectors("sum")
    lanes = {name: lanes_of(data) for name, data in vector["inputs"].items()}
    for name, masked in vector["sum"]["masked"].items():
        assert np.array_equal(lanes_of(masked), lanes[name] + sum(map(lanes_of, vector["masks"][name].values())))
    assert np.array_equal(lanes_of(vector["sum"]["total"]), np.sum(list(lanes.values()), 0, dtype=np.uint32))


def test_pair_masks_cancel() -> None:
    masks = vectors("sum")["masks"]
    for one in masks:
        for other in masks.keys() - {one}:
            assert not (lanes_of(masks[one][other]) + lanes_of(masks[other][one])).any()


def lanes_of(data: str) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.frombuffer(bytes.fromhex(data), "<u4").astype(np.uint32)


def hkdf(secret: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    """RFC 5869 as it is written there."""
    key, block, output = hmac.digest(salt or bytes(32), secret, "sha256"), b"", b""
    for counter in range(1, -(-size // 32) + 1):
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        output += block
    return output[:size]


RFC_5869 = [
    (
        "0b" * 22, "000102030405060708090a0b0c", "f0f1f2f3f4f5f6f7f8f9",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    ("0b" * 22, "", "", "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
]  # fmt: skip


@pytest.mark.parametrize("case", RFC_5869, ids=["A.1", "A.3"])
def test_hkdf_is_that_of_rfc_5869(case: tuple[str, str, str, str]) -> None:
    secret, salt, info, expected = map(bytes.fromhex, case)
    assert hkdf(secret, salt, info, 42) == HKDF(SHA256(), 42, salt or None, info).derive(secret) == expected


def test_keys_are_derived_by_hkdf_from_purpose_and_context_with_their_lengths() -> None:
    for purpose in Purpose:
        parts = (b"consortium 1", purpose.value.encode(), b"context", b"")
        info = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
        assert derive_key(b"secret", purpose, b"context", b"") == hkdf(b"secret", b"", info, 32)


def test_counter_mode_is_that_of_sp_800_38a() -> None:
    """F.5.5, all four blocks: the primitive under our masks, which start from counter 0."""
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    plain = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    counter = bytes(range(0xF0, 0x100))
    assert Cipher(AES(key), CTR(counter)).encryptor().update(plain).hex() == (
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c52b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    )


def test_a_commitment_is_a_tagged_hash() -> None:
    expected = hashlib.sha256(b"consortium commitment share\0" + bytes(32)).hexdigest()
    assert OPERATIONS["commit"](kind="share", secret="00" * 32) == expected
