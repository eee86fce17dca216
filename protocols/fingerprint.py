"""Words to compare by telephone: a name and its identity key as six proquints (Wilkerson 2009, "A Proposal for Proquints")."""

from __future__ import annotations

import hashlib
import hmac
import re

WORDS = 6
_CONSONANTS = "bdfghjklmnprstvz"
_VOWELS = "aiou"


def fingerprint(name: str, public_key: bytes) -> str:
    """Six words of five letters, joined by hyphens: the first 96 bits of a SHA-256 over the name and the key."""
    encoded = name.encode()
    digest = hashlib.sha256(b"consortium fingerprint 1\0" + len(encoded).to_bytes(4, "little") + encoded + public_key).digest()
    return "-".join(_word(int.from_bytes(digest[at : at + 2], "big")) for at in range(0, 2 * WORDS, 2))


def same_fingerprint(given: str, expected: str) -> bool:
    """Whether what a person typed, with spaces or hyphens and in any case, is this fingerprint."""
    return hmac.compare_digest("-".join(_typed(given)).encode(), expected.encode())


def is_fingerprint(given: str) -> bool:
    """Whether it has the form of one: neither cut short, nor something else."""
    words, shape = _typed(given), re.compile(f"([{_CONSONANTS}][{_VOWELS}]){{2}}[{_CONSONANTS}]")
    return len(words) == WORDS and all(shape.fullmatch(word) for word in words)


def _typed(given: str) -> list[str]:
    return given.lower().replace("-", " ").split()


def _word(bits: int) -> str:
    """16 bits as consonant, vowel, consonant, vowel, consonant: 4, 2, 4, 2 and 4 bits, the highest first."""
    return _CONSONANTS[bits >> 12] + _VOWELS[bits >> 10 & 3] + _CONSONANTS[bits >> 6 & 15] + _VOWELS[bits >> 4 & 3] + _CONSONANTS[bits & 15]
