"""Books as passages: a few neighbouring sentences each, in plain ASCII punctuation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from model.errors import RecipeError

PASSAGE_WORDS = 45
_SHORTEST = 12
_SENTENCE = re.compile(r"(?<=[.!?;])[\"']?\s+")
_PLAIN = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2013": "-",
        "\u2014": " - ",
        "\u2026": "...",
        "\u2060": "",
        "\u00a0": " ",
    }
)


@dataclass(frozen=True, slots=True)
class Passage:
    """Neighbouring sentences of one paragraph, about `PASSAGE_WORDS` words."""

    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.sentences)


def read_chapters(path: Path) -> list[str]:
    """Training chapters of a JSONL file with the fields `text` and `split`, typographic punctuation made plain.

    Raises:
        RecipeError: the file is missing or a line is no such record.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise RecipeError(f"{path} cannot be read: give the folder that holds the recipe's books") from None
    chapters = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            if record["split"] == "train":
                chapters.append(str(record["text"]).translate(_PLAIN))
        except (ValueError, KeyError, TypeError):
            raise RecipeError(f"{path} line {number} is no record with text and split: restore the file") from None
    return chapters


def split_passages(chapters: Iterable[str]) -> list[Passage]:
    """All passages in reading order; leftovers of fewer than 12 words are dropped."""
    return [passage for chapter in chapters for paragraph in chapter.split("\n") for passage in _passages(paragraph)]


def _passages(paragraph: str) -> Iterator[Passage]:
    sentences: list[str] = []
    words = 0
    for sentence in filter(None, map(str.strip, _SENTENCE.split(paragraph))):
        sentences.append(sentence)
        words += len(sentence.split())
        if words >= PASSAGE_WORDS:
            yield Passage(tuple(sentences))
            sentences, words = [], 0
    if words >= _SHORTEST:
        yield Passage(tuple(sentences))
