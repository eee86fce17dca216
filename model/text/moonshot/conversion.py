"""Ranks and special tokens as the tokenizer of a `tokenizer.json`: byte-level BPE behind Moonshot's pattern."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Encoder

from model.errors import TokenizerError
from model.text.moonshot.pattern import PATTERN, RESERVED
from model.text.moonshot.ranks import merge_pairs

_FLAGS = ("lstrip", "rstrip", "normalized", "single_word")


def build_encoder(ranks: Mapping[bytes, int], special: Mapping[int, AddedToken]) -> Encoder:
    """Byte-level BPE with tiktoken's rule that a piece which is a token stays whole, and `special` tokens by id after the ranks."""
    alphabet = byte_alphabet()
    spelled = {token: "".join(alphabet[byte] for byte in token) for token in ranks}
    merges = [(spelled[left], spelled[right]) for left, right in merge_pairs(ranks)]
    encoder = Encoder(models.BPE({spelled[token]: rank for token, rank in ranks.items()}, merges, ignore_merges=True))
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    encoder.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    encoder.decoder = decoders.ByteLevel()
    encoder.add_tokens([token for _, token in sorted(special.items())])
    for number, token in special.items():
        if encoder.token_to_id(token.content) != number:
            raise TokenizerError(
                f"tokenizer_config.json gives id {number} to {token.content}, which another token spells too: fetch it again"
            )
    return encoder


def byte_alphabet() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary (GPT-2): itself where printable, else from U+0100 on."""
    spare = count(256)
    return [chr(byte) if 33 <= byte <= 126 or (byte >= 161 and byte != 173) else chr(next(spare)) for byte in range(256)]


def read_special_tokens(path: Path, first: int) -> dict[int, AddedToken]:
    """The reserved ids from `first` on: names and flags from `added_tokens_decoder`, and `<|reserved_token_{id}|>` for the rest.

    Raises:
        TokenizerError: the file is missing or malformed, or names an id that is not reserved, or a name twice.
    """
    try:
        named = json.loads(path.read_bytes()).get("added_tokens_decoder", {})
        tokens = {int(number): _added(entry) for number, entry in named.items()}
    except FileNotFoundError:
        raise TokenizerError(f"{path} is missing: its added_tokens_decoder names the special tokens") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise TokenizerError(f"{path}: added_tokens_decoder is not a table of ids and tokens: fetch it again") from None
    for number in sorted(tokens):
        if not first <= number < first + RESERVED:
            raise TokenizerError(f"{path}: id {number} is not one of the {RESERVED} reserved after tiktoken.model's {first} ranks")
    reserved = range(first, first + RESERVED)
    tokens = {number: tokens.get(number) or AddedToken(f"<|reserved_token_{number}|>", special=True) for number in reserved}
    if len({token.content for token in tokens.values()}) < RESERVED:
        raise TokenizerError(f"{path}: added_tokens_decoder gives one name to two ids: fetch it again")
    return tokens


def _added(entry: Mapping[str, Any]) -> AddedToken:
    flags = {flag: bool(entry[flag]) for flag in _FLAGS if flag in entry}
    return AddedToken(str(entry["content"]), special=bool(entry.get("special", True)), **flags)
