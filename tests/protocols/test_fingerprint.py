"""Words for the telephone: the published encoding, bound to the name and to every bit of the key."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.fingerprint import _word, fingerprint, is_fingerprint, same_fingerprint

KEY = bytes(range(32))


@pytest.mark.parametrize(("bits", "word"), [(0x7F00, "lusab"), (0x0001, "babad"), (0x3F54, "gutih"), (0xDCC1, "tugad"), (0xFFFF, "zuzuz")])
def test_words_are_those_of_the_proposal(bits: int, word: str) -> None:
    assert _word(bits) == word


def test_every_word_means_other_bits() -> None:
    assert len({_word(bits) for bits in range(2**16)}) == 2**16


@given(st.text(max_size=20), st.binary(min_size=32, max_size=32), st.integers(0, 255))
def test_every_bit_of_the_key_counts(name: str, key: bytes, bit: int) -> None:
    other = bytearray(key)
    other[bit // 8] ^= 1 << bit % 8
    assert re.fullmatch("([a-z]{5}-){5}[a-z]{5}", fingerprint(name, key))
    assert fingerprint(name, key) not in (fingerprint(name, bytes(other)), fingerprint(name + "x", key))


def test_words_may_be_typed_as_they_are_heard() -> None:
    words = fingerprint("amber", KEY)
    assert same_fingerprint(words.upper().replace("-", "  "), words) and same_fingerprint(f" {words} ", words)
    assert is_fingerprint(words.upper().replace("-", " ")) and not is_fingerprint(words[:-1]) and not is_fingerprint("foo bar baz")
    assert not same_fingerprint(words[:-1], words) and not same_fingerprint("", words) and not same_fingerprint("é", words)
