"""A checkpoint's chat template: messages to text, and what of the text is the template's, what a message's, and what is learnt."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from model.errors import TokenizerError
from model.text.template_sandbox import compile_template, run_template

Messages = Sequence[Mapping[str, str]]
ROLES = ("system", "user", "assistant")
_PRIVATE = range(0xE000, 0xF900)  # Unicode's characters for private use

# DeepSeek's form for checkpoints without a template.
_PLAIN = (
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}{{ 'Assistant: ' + message.content + eos_token }}"
    "{% else %}{{ ('User: ' if message.role == 'user' else '') + message.content + '\n\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a rendered chat: `own` text is the template's, where control tokens are meant; other text is a message's."""

    text: str
    own: bool
    learnt: bool = False


class ChatTemplate:
    """A compiled template; `place` names its file in errors, `tokens` are the spellings that it may use, such as `bos_token`."""

    def __init__(self, source: str, place: str, tokens: Mapping[str, str]) -> None:
        self._place, self._tokens = place, dict(tokens)
        try:
            self._template = compile_template(source)
        except Exception as error:  # Jinja compiles to Python, which has limits of its own
            self._fail(error)

    def render(self, messages: Messages, add_generation_prompt: bool) -> str:
        """The text of `messages`, each with a role (system, user or assistant) and a content; what else they hold is not shown.

        Raises:
            TokenizerError: the template refuses the messages, reaches out of its sandbox, or goes on too long.
        """
        turns = [{"role": message["role"], "content": message["content"]} for message in messages]
        if any(turn["role"] not in ROLES for turn in turns):
            raise TokenizerError(f"A message's role is none of {', '.join(ROLES)}")
        given = {"messages": turns, "tools": None, "documents": None, "add_generation_prompt": add_generation_prompt}
        try:
            text = run_template(self._template, self._tokens | given)
            text.encode()  # JSON can hold half a surrogate pair
        except Exception as error:  # whatever Python's operators raise on a template's behalf
            self._fail(error)
        return text

    def pieces(self, messages: Messages, add_generation_prompt: bool) -> list[Piece]:
        """`render`, divided into the template's own text and the messages' contents.

        The division is that of a rendering with placeholders, which no content spells. It holds if the contents in their
        places, whole or stripped, give the very text of `render`; so nothing of a content ever counts as the template's.

        Raises:
            TokenizerError: as `render`, or the template changes contents in another way.
        """
        rendered = self.render(messages, add_generation_prompt)
        contents = [message["content"] for message in messages]
        mark = _unused_character([rendered, *contents])
        held = [{**turn, "content": f"{mark}{n}{mark}" if turn["content"] else ""} for n, turn in enumerate(messages)]
        fragments = re.split(f"{mark}([0-9]+){mark}", self.render(held, add_generation_prompt))
        pieces = list(_filled(fragments, contents, rendered))
        if "".join(piece.text for piece in pieces) != rendered:
            raise TokenizerError(f"{self._place} rewrites what a message says, so the template's text cannot be told from it")
        return [piece for piece in pieces if piece.text]

    def parts(self, messages: Messages) -> list[Piece]:
        """`pieces`, with each assistant's turn learnt: what follows the generation prompt, up to the end that the template writes.

        Raises:
            TokenizerError: as `pieces`, or earlier turns depend on later ones, or a turn is not ended.
        """
        pieces = self.pieces(messages, add_generation_prompt=False)
        whole = "".join(piece.text for piece in pieces)
        bounds = [0]
        for index, message in enumerate(messages):
            if message["role"] == "assistant":
                given, through = self.render(messages[:index], True), self.render(messages[: index + 1], False)
                if not (whole.startswith(through) and through.startswith(given) and bounds[-1] <= len(given) < len(through)):
                    raise TokenizerError(f"{self._place} cannot be used for training, since it rewrites earlier turns")
                bounds += [len(given), len(through)]
        return self._ended(list(_cut(pieces, [*bounds, len(whole)])))

    def _ended(self, parts: list[Piece]) -> list[Piece]:
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            if part.learnt and not part.own and not (following and following.learnt):
                raise TokenizerError(f"{self._place} cannot be used for training, since it does not end an assistant's turn")
        return parts

    def _fail(self, error: Exception) -> NoReturn:
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise TokenizerError(f"{self._place} cannot be used as a chat template: {cause}") from None


def load_chat_template(directory: Path) -> ChatTemplate | None:
    """The template in `chat_template.jinja` or else `tokenizer_config.json`, of several the one named default; None without any.

    Raises:
        TokenizerError: it cannot be read, or is no template.
    """
    path, own = directory / "tokenizer_config.json", directory / "chat_template.jinja"
    try:
        config = json.loads(path.read_bytes()) if path.is_file() else {}
        source = own.read_text(encoding="utf-8") if own.is_file() else config.get("chat_template")
        tokens = {name: spelling(token) for name, token in config.items() if name.endswith("_token") and isinstance(token, str | dict)}
        if isinstance(source, list):
            source = {entry["name"]: entry["template"] for entry in source}["default"]
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        raise TokenizerError(f"{directory} holds a chat template or special tokens that cannot be read: fetch it again") from None
    if source is None:
        return None
    return ChatTemplate(str(source), str(own if own.is_file() else path), tokens)


def plain_chat(end: str) -> ChatTemplate:
    """DeepSeek's form for a checkpoint without a template: "User: …", a blank line, "Assistant: …" and the end token."""
    return ChatTemplate(_PLAIN, "The plain chat form", {"eos_token": end})


def spelling(token: str | Mapping[str, str]) -> str:
    """The text of a token as `tokenizer_config.json` has it: a string, or a table with its content."""
    return token if isinstance(token, str) else token["content"]


def _unused_character(texts: Sequence[str]) -> str:
    used = set().union(*texts)
    unused = next((chr(code) for code in _PRIVATE if chr(code) not in used), None)
    if unused is None:
        raise TokenizerError("A chat holds every private character of Unicode: leave it out")
    return unused


def _filled(fragments: Sequence[str], contents: Sequence[str], rendered: str) -> Iterator[Piece]:
    """Own texts with contents between; `fragments` are own texts and, between two, the number of a content."""
    yield Piece(fragments[0], own=True)
    reached = len(fragments[0])
    for number, own in zip(fragments[1::2], fragments[2::2], strict=True):
        content = contents[int(number)]
        text = content if rendered.startswith(content + own, reached) else content.strip()
        yield Piece(text, own=False)
        yield Piece(own, own=True)
        reached += len(text) + len(own)


def _cut(pieces: Sequence[Piece], bounds: Sequence[int]) -> Iterator[Piece]:
    """The pieces cut at `bounds`, ascending from 0 to their whole length; every second stretch between bounds is learnt."""
    start = 0
    for piece in pieces:
        for stretch in range(len(bounds) - 1):
            begin, end = max(bounds[stretch] - start, 0), max(bounds[stretch + 1] - start, 0)
            if piece.text[begin:end]:
                yield replace(piece, text=piece.text[begin:end], learnt=stretch % 2 == 1)
        start += len(piece.text)
