"""`tiktoken.model` turned into a `tokenizer.json` beside it, after both have given the same tokens for the same texts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import tiktoken
from tokenizers import Tokenizer as Encoder

from model.errors import TokenizerError
from model.text.moonshot.conversion import build_encoder, read_special_tokens
from model.text.moonshot.pattern import PATTERN, check_pattern
from model.text.moonshot.ranks import read_ranks
from model.text.moonshot.texts import probe_texts
from model.text.tokenizer import Tokenizer

_BATCH = 8192


@dataclass(frozen=True, slots=True)
class ImportedTokenizer:
    """What was imported: the file, whether it was written now or stood there equal, and how much was compared."""

    path: Path
    written: bool
    vocab_size: int
    texts: int
    tokens: int


def import_tokenizer(directory: Path) -> ImportedTokenizer:
    """Writes `tokenizer.json` into a checkpoint directory that has Moonshot's `tiktoken.model`.

    Raises:
        TokenizerError: a file is malformed, the pattern is not the known one, another tokenizer.json stands there, or the
            two tokenizers differ on a text; nothing is written.
    """
    ranks = read_ranks(directory / "tiktoken.model")
    check_pattern(directory)
    special = read_special_tokens(directory / "tokenizer_config.json", len(ranks))
    path, text = directory / "tokenizer.json", build_encoder(ranks, special).to_str(pretty=False) + "\n"
    exists = path.exists()
    if exists and path.read_bytes() != text.encode():
        raise TokenizerError(f"{path} is not what tiktoken.model gives, and is left as it is: move it away to import")
    names = {token.content: number for number, token in special.items()}
    reference = tiktoken.Encoding("checkpoint", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=names)
    tokenizer = Tokenizer(Encoder.from_str(text), sorted(names)[:1])
    texts, tokens = compare(tokenizer, reference, probe_texts(ranks))
    if not exists:
        _write(path, text.encode())
    return ImportedTokenizer(path, not exists, tokenizer.vocab_size, texts, tokens)


def compare(tokenizer: Tokenizer, reference: tiktoken.Encoding, texts: Iterable[str]) -> tuple[int, int]:
    """Numbers of texts and tokens on which the two agree; what spells a special token is compared as that and as plain text.

    Raises:
        TokenizerError: they differ; the sentence shows the text.
    """
    special = sorted(reference.special_tokens_set)
    ours = tokenizer.encode_pieces([[(name, True)] for name in special])
    _check(special, ours, [reference.encode(name, allowed_special="all") for name in special])
    text_count = token_count = len(special)
    for batch in _batches(chain(special, texts)):
        ours = tokenizer.encode_all(batch)
        _check(batch, ours, reference.encode_ordinary_batch(batch))
        text_count, token_count = text_count + len(batch), token_count + sum(map(len, ours))
    return text_count, token_count


def _check(texts: Sequence[str], ours: Sequence[list[int]], theirs: Sequence[list[int]]) -> None:
    for text, mine, other in zip(texts, ours, theirs, strict=True):
        if mine != other:
            raise TokenizerError(f"tokenizer.json would not encode {text!r} as tiktoken does, so nothing is written")


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(texts)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


def _write(path: Path, content: bytes) -> None:
    """The file appears whole or not at all."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(0o644)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
