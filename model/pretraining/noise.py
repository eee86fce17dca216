"""Spelling as people in a hurry write: swapped, missing and wrong letters, clipped words, vowels left out."""

from __future__ import annotations

import random
import string

_SHORTEST = 4


def roughen(text: str, share: float, rng: random.Random) -> str:
    """`text` with about `share` of its words misspelt or abbreviated; words of three letters and fewer stay."""
    return " ".join(_roughen_word(word, rng) if rng.random() < share else word for word in text.split())


def recase(text: str, rng: random.Random, upper: float, lower: float) -> str:
    """All upper case with probability `upper`, all lower case with probability `lower`."""
    draw = rng.random()
    return text.upper() if draw < upper else text.lower() if draw < upper + lower else text


def _roughen_word(word: str, rng: random.Random) -> str:
    if len(word) < _SHORTEST:
        return word
    at = rng.randrange(1, len(word) - 1)
    ways = (
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        word[:at] + word[at + 1 :],
        word[:at] + rng.choice(string.ascii_lowercase) + word[at:],
        word[: max(3, len(word) // 2)] + rng.choice(("", ".")),
        word[0] + "".join(letter for letter in word[1:] if letter.lower() not in "aeiou"),
    )
    return rng.choice(ways)
