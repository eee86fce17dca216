"""Clinical-style notes with codes: every hospital has its own conditions, wording and number of notes.

Many notes name other conditions too, as denied, ruled out, past or in the family; which one is coded follows from the words
around it, so counting single words is not enough.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from consortium.demo.vocabulary import ABSENT, CONDITIONS, HOSPITALS, PRESENT, Condition, Hospital
from protocols.files import write_file

TEST_SHARE = 0.25
DISTRACTED = 0.8  # share of notes that name another condition too
OWN = 0.95  # share of a hospital's notes that are about what it mostly sees
TYPING_ERRORS = 0.12  # share of words with one
KINDS = ("clinical", "plain", "short")


def demo_records(seed: int) -> Iterator[dict[str, str]]:
    """Notes with `site`, `split`, `note` and `code`; the same for the same seed."""
    for number, hospital in enumerate(HOSPITALS):
        random = np.random.Generator(np.random.Philox(key=[seed, number]))
        for _ in range(hospital.notes):
            split = "test" if random.random() < TEST_SHARE else "train"
            condition = _condition(hospital, random)
            yield {"site": hospital.name, "split": split, "note": _note(hospital, condition, random), "code": condition.code}


def write_demo_records(path: Path, seed: int) -> None:
    """The notes as JSON lines."""
    write_file(path, "".join(json.dumps(record) + "\n" for record in demo_records(seed)).encode())


def _condition(hospital: Hospital, random: np.random.Generator) -> Condition:
    if random.random() >= OWN:
        return CONDITIONS[random.integers(len(CONDITIONS))]
    # Falling shares, so that hospitals differ in amounts too and not only in kinds.
    shares = 1.0 / np.arange(2, hospital.conditions + 2)
    number = random.choice(hospital.conditions, p=shares / shares.sum())
    return CONDITIONS[(hospital.first + int(number)) % len(CONDITIONS)]


def _note(hospital: Hospital, condition: Condition, random: np.random.Generator) -> str:
    parts = [_phrase(PRESENT, condition, hospital, random)]
    if random.random() < DISTRACTED:
        others = [other for other in CONDITIONS if other != condition]
        parts.append(_phrase(ABSENT, others[random.integers(len(others))], hospital, random))
        random.shuffle(parts)
    opening, ending = _one(hospital.openings, random), _one(hospital.endings, random)
    words = f"{opening} {', '.join(parts)}. {ending}".split()
    return " ".join(_typed(word, random) for word in words)


def _phrase(patterns: tuple[str, ...], condition: Condition, hospital: Hospital, random: np.random.Generator) -> str:
    own_manner = hospital.manner != "mixed" and random.random() < 0.7
    kind = hospital.manner if own_manner else _one(KINDS, random)
    return _one(patterns, random).format(x=getattr(condition, kind))


def _typed(word: str, random: np.random.Generator) -> str:
    """The word, now and then with two letters exchanged or one left out."""
    if len(word) < 5 or random.random() >= TYPING_ERRORS:
        return word
    place = int(random.integers(1, len(word) - 2))
    swapped = word[place + 1] + word[place] if random.random() < 0.5 else word[place]
    return word[:place] + swapped + word[place + 2 :]


def _one(choices: tuple[str, ...], random: np.random.Generator) -> str:
    return choices[random.integers(len(choices))]
