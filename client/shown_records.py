"""Records as the model sees them, for the eyes of the institution's own people: on a terminal, never in a file, log or document."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from client.dataset import Example
from model.text.tokenizer import Tokenizer

MOST_SHOWN = 3
OPEN, CLOSE = "⟦", "⟧"  # around what is learnt


def shown_records(examples: Sequence[Example], tokenizer: Tokenizer) -> list[str]:
    """The first records, each with its number of tokens; what is learnt stands between brackets."""
    lines = [f"The first records as the model will see them; what is learnt stands in {OPEN} {CLOSE}."]
    for number, example in enumerate(examples[:MOST_SHOWN], start=1):
        lines += [f"--- record {number}: {len(example.tokens)} tokens, {int(example.learnt.sum())} learnt", _text(example, tokenizer)]
    return lines


def _text(example: Example, tokenizer: Tokenizer) -> str:
    stretches = groupby(zip(example.tokens.tolist(), example.learnt.tolist(), strict=True), key=lambda pair: pair[1])
    texts = [(learnt, _visible(tokenizer.decode(token for token, _ in pairs))) for learnt, pairs in stretches]
    return "".join(f"{OPEN}{text}{CLOSE}" if learnt else text for learnt, text in texts)


def _visible(text: str) -> str:
    """Without anything that a terminal would obey."""
    return "".join(sign if sign.isprintable() or sign == "\n" else sign.encode("unicode_escape").decode() for sign in text)
