"""Keys, shares, masks and messages: known answers and invariants."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from hypothesis import given
from hypothesis import strategies as st

from protocols.codec import Message, SignedMessage
from protocols.errors import ConsortiumError, MalformedMessage, ProtocolError, RosterError, SignatureError
from protocols.identity import Envelope, Identity, open_envelope, seal_envelope
from protocols.keys import Purpose, derive_key
from protocols.masking import TILE, add_masks
from protocols.pack import PackError, pack, unpack
from protocols.roster import Roster, RosterEntry
from protocols.shamir import PRIME, combine_shares, split_secret


def test_derived_keys_differ_by_purpose_and_by_how_context_is_cut() -> None:
    keys = {derive_key(bytes(32), purpose, b"ab") for purpose in Purpose} | {derive_key(bytes(32), Purpose.SEAL, b"a", b"b")}
    assert len(keys) == len(Purpose) + 1


def test_a_derived_key_is_what_it_was() -> None:
    assert derive_key(bytes(32), Purpose.SELF_MASK, b"context").hex() == "d2b8302515ee754ff5f7151ce6151a3edd79b3e3080e9bcc74f666f86d1e5481"


def test_a_mask_is_the_key_stream_of_aes_256_ctr() -> None:
    vector, key = np.zeros(TILE + 77, np.uint32), bytes(range(32))
    add_masks(vector, [key], [])
    stream = Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(vector.nbytes))
    assert vector.astype("<u4").tobytes() == stream


@given(st.integers(0, 2 * TILE), st.integers(0, 3), st.integers(0, 3))
def test_masks_added_and_taken_away_leave_the_vector(size: int, plus: int, minus: int) -> None:
    before = np.arange(size, dtype=np.uint32)
    vector, keys = before.copy(), [bytes([i]) * 32 for i in range(6)]
    add_masks(vector, keys[:plus], keys[3 : 3 + minus])
    add_masks(vector, keys[3 : 3 + minus], keys[:plus])
    assert np.array_equal(vector, before)


@given(st.binary(min_size=32, max_size=32), st.integers(2, 6), st.integers(0, 4), st.randoms(use_true_random=False))
def test_any_threshold_of_shares_gives_the_secret(secret: bytes, threshold: int, more: int, rng: object) -> None:
    shares = split_secret(secret, threshold, threshold + more, os.urandom)
    chosen = rng.sample(range(1, threshold + more + 1), threshold)  # type: ignore[attr-defined]
    assert combine_shares({x: shares[x - 1] for x in chosen}) == secret


def test_fewer_shares_give_something_else() -> None:
    shares = split_secret(b"\7" * 32, 3, 5, os.urandom)
    try:
        assert combine_shares({1: shares[0], 2: shares[1]}) != b"\7" * 32
    except ConsortiumError as error:
        assert "belong together" in str(error)


@dataclass(frozen=True)
class Example(Message):
    name: str
    number: int
    parts: tuple[bytes, ...]


@given(st.text(), st.integers(0, 10**18), st.lists(st.binary()))
def test_a_message_survives_the_journey(name: str, number: int, parts: list[bytes]) -> None:
    try:
        message = Example(name, number, tuple(parts))
        data = message.to_bytes()
    except UnicodeEncodeError:
        return
    assert Example.from_bytes(data) == message


@given(st.text(), st.integers(0, 10**18), st.lists(st.binary()))
def test_what_a_message_remembers_of_its_bytes_is_no_part_of_it(name: str, number: int, parts: list[bytes]) -> None:
    fresh, used = (Example(name.encode(errors="ignore").decode(), number, tuple(parts)) for _ in range(2))
    shown = repr(used)
    read = Example.from_bytes(used.to_bytes())
    assert (used.hash, used.to_bytes()) == (read.hash, read.to_bytes())
    assert fresh == used == read and repr(used) == shown and hash(fresh) == hash(used)
    changed = replace(used, number=number + 1)
    assert changed.to_bytes() != used.to_bytes() and Example.from_bytes(changed.to_bytes()) == changed


@dataclass(frozen=True)
class SignedExample(SignedMessage):
    name: str
    number: int
    signature: bytes


def test_a_signature_covers_every_other_field_and_the_kind_of_message() -> None:
    message = SignedExample("a", 1, b"one")
    assert message.signed() == replace(message, signature=b"two").signed()
    assert len({message.signed(), replace(message, name="b").signed(), replace(message, number=2).signed()}) == 3
    assert message.signed_by(lambda data: data[:9]).signature == message.signed()[:9]


@given(st.binary(max_size=60))
def test_only_what_pack_makes_is_unpacked(data: bytes) -> None:
    try:
        parts = unpack(data)
    except PackError:
        return
    assert pack(parts) == data


@given(st.dictionaries(st.text(alphabet="abc"), st.binary(max_size=3), max_size=4), st.data())
def test_names_out_of_order_or_repeated_are_not_unpacked(parts: dict[str, bytes], data: st.DataObject) -> None:
    assert unpack(pack(parts)) == parts
    pieces = [pack({name: content}) for name, content in parts.items()]
    shuffled = data.draw(st.permutations(pieces + pieces[:1]))
    if parts:
        with pytest.raises(PackError):
            unpack(b"".join(shuffled))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_with_a_typed_error(data: bytes) -> None:
    for kind in (Example, Envelope, Roster):
        with pytest.raises(MalformedMessage):
            kind.from_bytes(data)


@given(st.data())
def test_an_altered_message_is_refused_or_is_another_message(data: st.DataObject) -> None:
    message = Example("name", 7, (b"one", b"two"))
    original = bytearray(message.to_bytes())
    original[data.draw(st.integers(0, len(original) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        other = Example.from_bytes(bytes(original))
    except MalformedMessage:
        return
    assert other != message


ENVELOPE = Envelope("ada", "coordinator", "run", 1, 1, "update/train.sum", b"", 0, b"payload")


def test_an_envelope_opens_for_the_key_on_the_roster_alone() -> None:
    identity, other = Identity("ada", bytes(32)), Identity("ada", b"\1" * 32)
    roster = Roster((RosterEntry("ada", identity.public_key),))
    assert open_envelope(seal_envelope(identity, ENVELOPE), roster) == ENVELOPE
    with pytest.raises(SignatureError):
        open_envelope(seal_envelope(other, ENVELOPE), roster)
    with pytest.raises(RosterError):
        open_envelope(seal_envelope(identity, replace(ENVELOPE, sender="eve")), roster)


def test_a_key_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    identity, path = Identity("ada", bytes(range(32))), tmp_path / "identity.key"
    identity.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Identity.load("ada", path).public_key == identity.public_key
    with pytest.raises(ConsortiumError, match="holds a key already"):
        identity.save(path)
    path.chmod(0o644)
    with pytest.raises(ConsortiumError, match="chmod 600"):
        Identity.load("ada", path)


def test_a_share_is_one_number_below_the_prime() -> None:
    shares = dict(enumerate(split_secret(b"\7" * 32, 2, 3, os.urandom), 1))
    for share in (PRIME.to_bytes(33, "big"), shares[1][1:], b"\0" + shares[1], b"\xff" * 33):
        with pytest.raises(ProtocolError, match="no number below the prime"):
            combine_shares(shares | {1: share})
