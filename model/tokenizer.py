"""A checkpoint's `tokenizer.json`: text to token ids and back. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer as Encoder

from model.errors import TokenizerError

END = "<|end|>"
PADDING = "<|padding|>"


class Tokenizer:
    """Encodes without adding special tokens: a record decides itself where it ends."""

    def __init__(self, encoder: Encoder, end: str = END) -> None:
        found = encoder.token_to_id(end)
        if found is None:
            raise TokenizerError(f"The tokenizer has no end token {end}: name the one it uses")
        encoder.encode_special_tokens = True  # a record that spells the end token must not end there
        self._encoder = encoder
        self.eos_token_id: int = found

    @property
    def vocab_size(self) -> int:
        """Number of token ids, special ones included."""
        return int(self._encoder.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; text that spells a special token is plain text."""
        return list(self._encoder.encode(text, add_special_tokens=False).ids)

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for each text, in parallel."""
        return [list(encoding.ids) for encoding in self._encoder.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, special tokens left out; bytes that are no valid UTF-8 become U+FFFD."""
        return str(self._encoder.decode(list(ids), skip_special_tokens=True))

    def save(self, path: str | Path) -> None:
        """Writes `tokenizer.json` text to `path`."""
        Path(path).write_text(self._encoder.to_str(pretty=False) + "\n", encoding="utf-8")


def load_tokenizer(directory: str | Path) -> Tokenizer:
    """Reads `tokenizer.json` of a checkpoint directory; its end token is named in `tokenizer_config.json`.

    Raises:
        TokenizerError: a file is missing or unreadable, or the end token is not in the vocabulary.
    """
    path = Path(directory) / "tokenizer.json"
    if not path.is_file():
        raise TokenizerError(f"{directory} has no tokenizer.json: give a directory in Hugging Face's layout")
    try:
        encoder = Encoder.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise TokenizerError(f"{path} cannot be read ({error}): fetch it again") from None
    return Tokenizer(encoder, _end_token(Path(directory)))


def _end_token(directory: Path) -> str:
    path = directory / "tokenizer_config.json"
    if not path.is_file():
        return END
    try:
        token = json.loads(path.read_text(encoding="utf-8")).get("eos_token", END)
    except ValueError:
        raise TokenizerError(f"{path} is not JSON: fetch the checkpoint again") from None
    return str(token["content"] if isinstance(token, dict) else token)
