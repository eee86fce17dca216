"""A checkpoint's `tokenizer.json`: text to token ids and back. No torch."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, models
from tokenizers import Tokenizer as Encoder

from model.errors import TokenizerError
from model.text.chat import ChatTemplate, load_chat_template, plain_chat

END = "<|end|>"
PADDING = "<|padding|>"


class Tokenizer:
    """Encodes without adding special tokens: a record decides itself where it ends.

    Control tokens are the end tokens and the added tokens of more than one character, called special or not: DeepSeek does not
    call those that begin a turn special. Text never spells one, unless it is a chat template's own.
    """

    def __init__(self, encoder: Encoder, ends: Sequence[str] = (END,), chat: ChatTemplate | None = None) -> None:
        self.end, self.eos_token_ids = ends[0], tuple(_id(encoder, end) for end in ends)
        self.chat = chat or plain_chat(self.end)
        added = {token.content: token for token in encoder.get_added_tokens_decoder().values() if len(token.content) > 1}
        control = {end: AddedToken(end) for end in ends} | added
        self._control = {name: _id(encoder, name) for name in control}
        self._encoder, self._plain, self._finder = encoder, _plain_encoder(encoder), _control_finder(control.values())

    @property
    def eos_token_id(self) -> int:
        """The end token that is written; others of `eos_token_ids` only end what a network writes."""
        return self.eos_token_ids[0]

    @property
    def vocab_size(self) -> int:
        """Number of token ids, special ones included."""
        return int(self._encoder.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; text that spells a control token is plain text."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for each text, in parallel.

        Raises:
            TokenizerError: the vocabulary itself makes a control token of plain text, or a text holds half a surrogate pair.
        """
        try:
            encoded = [list(encoding.ids) for encoding in self._plain.encode_batch(list(texts), add_special_tokens=False)]
        except TypeError:
            raise TokenizerError("A text holds half a surrogate pair, which is no text: correct it") from None
        control = frozenset(self._control.values())
        for text, ids in zip(texts, encoded, strict=True):
            if not control.isdisjoint(ids):
                raise TokenizerError(f"The tokenizer makes a control token of the plain text {text[:80]!r}: it cannot be used safely")
        return encoded

    def encode_pieces(self, sequences: Sequence[Sequence[tuple[str, bool]]]) -> list[list[int]]:
        """Token ids of each sequence of pieces: a text, and whether control tokens that it spells are meant.

        What stands between two control tokens is encoded as one text, whichever pieces it comes from.
        """
        split = [self._split(pieces) for pieces in sequences]
        encoded = iter(self.encode_all([run for runs in split for run in runs if isinstance(run, str)]))
        return [[token for run in runs for token in ([run] if isinstance(run, int) else next(encoded))] for runs in split]

    def closing(self, ids: Iterable[int]) -> int | None:
        """The last control token among `ids`: the one that ends a target or a turn."""
        control = set(self._control.values())
        return next((token for token in reversed([*map(int, ids)]) if token in control), None)

    def turn_end(self) -> int | None:
        """The control token with which the chat template ends an assistant's turn; None if it writes none.

        Raises:
            TokenizerError: the template cannot be used.
        """
        last = self.chat.pieces([{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}], False)[-1]
        return self.closing(self.encode_pieces([[(last.text, last.own)]])[0])

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, special tokens left out; bytes that are no valid UTF-8 become U+FFFD."""
        return str(self._encoder.decode(list(ids), skip_special_tokens=True))

    def save(self, path: str | Path) -> None:
        """Writes `tokenizer.json` text to `path`."""
        Path(path).write_text(self._encoder.to_str(pretty=False) + "\n", encoding="utf-8")

    def _split(self, pieces: Sequence[tuple[str, bool]]) -> list[str | int]:
        """Plain texts and ids of control tokens, in order."""
        runs: list[str | int] = [""]
        for text, meant in pieces:
            for run in self._meant(text) if meant else [text]:
                if isinstance(run, str) and isinstance(runs[-1], str):
                    runs[-1] += run
                else:
                    runs.append(run)
        return [run for run in runs if run != ""]

    def _meant(self, text: str) -> list[str | int]:
        found, start = self._finder.encode(text), 0
        runs: list[str | int] = []
        for token, (begin, end) in zip(found.tokens, found.offsets, strict=True):
            if token in self._control:
                runs += [text[start:begin], self._control[token]]
                start = end
        return [*runs, text[start:]]


def load_tokenizer(directory: str | Path) -> Tokenizer:
    """Reads `tokenizer.json` of a checkpoint directory, its end tokens and its chat template.

    The end token is the `eos_token` of `tokenizer_config.json`, or else the `eos_token_id` of `generation_config.json` or
    `config.json`, which may be several.

    Raises:
        TokenizerError: a file is missing or unreadable, an end token is not in the vocabulary, or the network of `config.json`
            has no embedding for a token.
    """
    path = Path(directory) / "tokenizer.json"
    if not path.is_file():
        also = "; `consortium model import` makes one of its tiktoken.model" if path.with_name("tiktoken.model").is_file() else ""
        raise TokenizerError(f"{directory} has no tokenizer.json: give a directory in Hugging Face's layout{also}")
    try:
        encoder = Encoder.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise TokenizerError(f"{path} cannot be read ({error}): fetch it again") from None
    embedded, last = _read(path.with_name("config.json")).get("vocab_size"), max(encoder.get_vocab().values(), default=0)
    if isinstance(embedded, int) and last >= embedded:
        raise TokenizerError(f"{path} has a token {last} and the network of config.json {embedded} only: the two do not belong together")
    return Tokenizer(encoder, _ends(Path(directory), encoder), load_chat_template(Path(directory)))


def _ends(directory: Path, encoder: Encoder) -> list[str]:
    """Spellings of the end tokens, the one to be written first."""
    token = _read(directory / "tokenizer_config.json").get("eos_token")
    if token is not None:
        return [str(token["content"] if isinstance(token, dict) and "content" in token else token)]
    for path in (directory / "generation_config.json", directory / "config.json"):
        found = _read(path).get("eos_token_id")
        if found is not None:
            return _spellings(found if isinstance(found, list) else [found], encoder, path)
    return [END]


def _spellings(ids: list[Any], encoder: Encoder, path: Path) -> list[str]:
    whole = ids and all(type(token) is int and token >= 0 for token in ids)
    spellings = [encoder.id_to_token(token) for token in ids] if whole else [None]
    if None in spellings:
        raise TokenizerError(f"{path}: eos_token_id {ids} is not in the vocabulary of tokenizer.json: fetch the checkpoint again")
    return [str(spelling) for spelling in spellings]


def _read(path: Path) -> dict[str, Any]:
    """A file's JSON object; empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise TokenizerError(f"{path} is not a JSON object: fetch the checkpoint again")
    return content


def _id(encoder: Encoder, token: str) -> int:
    try:
        found = encoder.token_to_id(token)
    except UnicodeEncodeError:
        found = None
    if found is None:
        raise TokenizerError(f"The tokenizer has no end token {reprlib.repr(token)}: name the one it uses")
    return found


def _plain_encoder(encoder: Encoder) -> Encoder:
    """The encoder for which no added token of more than one character is found in a text."""
    if any(not token.special and len(token.content) > 1 for token in encoder.get_added_tokens_decoder().values()):
        content = json.loads(encoder.to_str())
        for token in content["added_tokens"]:
            token["special"] |= len(token["content"]) > 1
        encoder = Encoder.from_str(json.dumps(content))
    encoder.encode_special_tokens = True
    return encoder


def _control_finder(tokens: Iterable[AddedToken]) -> Encoder:
    """Finds control tokens where tokenizers would, and takes everything between for one unknown word."""
    finder = Encoder(models.WordLevel({"": 0}, unk_token=""))
    finder.add_tokens(list(tokens))
    return finder
