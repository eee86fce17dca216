"""Words to compare by telephone: a name and its identity key as six proquints (Wilkerson 2009, "A Proposal for Proquints")."""

from __future__ import annotations

import hashlib
import hmac

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
    typed = "-".join(given.lower().replace("-", " ").split())
    return hmac.compare_digest(typed.encode(), expected.encode())


def _word(bits: int) -> str:
    """16 bits as consonant, vowel, consonant, vowel, consonant: 4, 2, 4, 2 and 4 bits, the highest first."""
    return _CONSONANTS[bits >> 12] + _VOWELS[bits >> 10 & 3] + _CONSONANTS[bits >> 6 & 15] + _VOWELS[bits >> 4 & 3] + _CONSONANTS[bits & 15]
