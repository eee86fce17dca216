"""Training the byte-pair vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer as Encoder
from tokenizers import decoders, models, pre_tokenizers, trainers

from model.text.tokenizer import END, PADDING, Tokenizer

_UPPER_EVERY = 8


def train_tokenizer(chapters: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE with single digits; the same chapters give the same vocabulary.

    Each chapter counts as written and in lower case, each eighth in upper case too: records are often written so.
    """
    encoder = Encoder(models.BPE())
    encoder.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    encoder.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END, PADDING],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    encoder.train_from_iterator(_casings(chapters), trainer)
    return Tokenizer(encoder)


def _casings(chapters: Iterable[str]) -> Iterator[str]:
    for number, chapter in enumerate(chapters):
        yield chapter
        yield chapter.lower()
        if number % _UPPER_EVERY == 0:
            yield chapter.upper()
