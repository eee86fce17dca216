"""Records as token sequences: which tokens are given, which are learnt, and what the right answer is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.errors import RecordError
from client.records import Record, Records
from client.template import Template, parse_template
from model.errors import TokenizerError
from model.text.chat import ROLES, Piece
from model.text.tokenizer import Tokenizer
from protocols.plan import RecordTemplates


@dataclass(frozen=True, slots=True)
class Example:
    """One record as tokens [t]; `learnt` [t] marks the target and its end token (in a chat, every assistant turn's)."""

    tokens: NDArray[np.int32]
    learnt: NDArray[np.bool_]
    prompt_length: int  # tokens before the last learnt stretch
    target: str  # text of the last learnt stretch
    target_bytes: int  # UTF-8 bytes of all learnt text


@dataclass(frozen=True, slots=True)
class Dataset:
    """The examples of one split, with counts of what was too long."""

    examples: tuple[Example, ...]
    truncated: int
    dropped: int
    groups: tuple[str, ...] = ()  # each example's; empty where the settings name no column


@dataclass(frozen=True, slots=True)
class Datasets:
    """An institution's training and test examples; neither is empty."""

    train: Dataset
    test: Dataset


def build_datasets(records: Records, templates: RecordTemplates, tokenizer: Tokenizer, source: str) -> Datasets:
    """Both sides of an institution's records; `source` is named where all of a side are too long.

    Raises:
        RecordError: as `build_dataset`, or a side is left empty.
    """
    built = Datasets(*(build_dataset(side, templates, tokenizer) for side in (records.train, records.test)))
    for name, dataset in (("training", built.train), ("test", built.test)):
        if not dataset.examples:
            raise RecordError(f"{source}: every {name} record is longer than records.max_tokens; raise it or truncate")
    return built


def build_dataset(records: Sequence[Record], templates: RecordTemplates, tokenizer: Tokenizer) -> Dataset:
    """Renders and tokenises records; prompt and target are tokenised apart, so a target's tokens do not depend on its prompt.

    Raises:
        RecordError: a record is too long and the plan says so, a prompt or target is empty, or a chat is malformed.
    """
    render = _chat_renderer(templates.messages, tokenizer) if templates.messages else _template_renderer(templates, tokenizer.end)
    encoded = _encode_all([render(record.values, record.place) for record in records], tokenizer)
    examples, groups, truncated, dropped = [], list[str](), 0, 0
    for record, example in zip(records, encoded, strict=True):
        too_long = len(example.tokens) > templates.max_tokens
        if too_long and templates.too_long == "drop":
            dropped += 1
            continue
        examples.append(_shortened(record, templates, tokenizer, len(example.tokens)) if too_long else example)
        groups.append(record.group)
        truncated += too_long
        if examples[-1].learnt[0]:
            raise RecordError(f"{record.place}: the record's prompt is empty; give the plan's template some text of its own")
    return Dataset(tuple(examples), truncated, dropped, tuple(groups) if any(groups) else ())


def _encode_all(rendered: Sequence[Sequence[Piece]], tokenizer: Tokenizer) -> list[Example]:
    records = [[list(stretch) for _, stretch in groupby(pieces, attrgetter("learnt"))] for pieces in rendered]
    ids = iter(tokenizer.encode_pieces([[(piece.text, piece.own) for piece in stretch] for record in records for stretch in record]))
    return [_example(record, [next(ids) for _ in record]) for record in records]


def _example(stretches: Sequence[Sequence[Piece]], ids: Sequence[list[int]]) -> Example:
    """Stretches of a record that are learnt or given by turns, and their tokens; a learnt one's last piece is its end."""
    learnt = np.repeat([stretch[0].learnt for stretch in stretches], [len(tokens) for tokens in ids])
    targets = ["".join(piece.text for piece in stretch[:-1]) for stretch in stretches if stretch[0].learnt]
    last = max(index for index, stretch in enumerate(stretches) if stretch[0].learnt)
    return Example(
        tokens=np.array([token for tokens in ids for token in tokens], np.int32),
        learnt=learnt,
        prompt_length=sum(len(tokens) for tokens in ids[:last]),
        target=targets[-1],
        target_bytes=sum(len(text.encode()) for text in targets),
    )


def _template_renderer(templates: RecordTemplates, end: str) -> Callable[[Any, str], list[Piece]]:
    prompt, target = parse_template(templates.prompt, "records.prompt"), parse_template(templates.target, "records.target")

    def render(values: dict[str, str], place: str) -> list[Piece]:
        text = target.render(values)
        if not text:
            raise RecordError(f"{place}: the record's target is empty; leave the record out, or fill the fields of the plan's target")
        given = Piece(prompt.render(values), own=False)
        return [given, Piece(text, own=False, learnt=True), Piece(end, own=True, learnt=True)]

    return render


def _shortened(record: Record, templates: RecordTemplates, tokenizer: Tokenizer, length: int) -> Example:
    """Cuts the longest prompt field from its end until the record fits."""
    if templates.too_long == "error" or templates.messages:
        raise RecordError(
            f"{record.place}: the record has {length} tokens, more than records.max_tokens = {templates.max_tokens}; raise it, "
            f"or set too_long to {'drop' if templates.messages else 'truncate or drop'}"
        )
    render = _template_renderer(templates, tokenizer.end)
    fields = _cuttable(templates)
    values = dict(record.values)
    while length > templates.max_tokens:
        longest = max(fields, key=lambda field: len(values[field]), default=None)
        if longest is None or not values[longest]:
            raise RecordError(f"{record.place}: longer than records.max_tokens even without its prompt's fields; raise max_tokens")
        values[longest] = _cut(values[longest], length - templates.max_tokens, tokenizer)
        [example] = _encode_all([render(values, record.place)], tokenizer)
        length = len(example.tokens)
    return example


def _cuttable(templates: RecordTemplates) -> list[str]:
    """The prompt's fields that the target does not use."""
    prompt: Template = parse_template(templates.prompt, "records.prompt")
    target = parse_template(templates.target, "records.target")
    return [field for field in dict.fromkeys(prompt.fields) if field not in target.fields]


def _cut(value: str, excess: int, tokenizer: Tokenizer) -> str:
    """`value` without about its last `excess` tokens, at least one character shorter."""
    ids = tokenizer.encode(value)
    kept = tokenizer.decode(ids[: max(len(ids) - excess, 0)]).rstrip("\ufffd")
    return value[: min(len(kept), len(value) - 1)]


def _chat_renderer(field: str, tokenizer: Tokenizer) -> Callable[[Any, str], list[Piece]]:
    """Renders by the checkpoint's template; every assistant's turn is learnt.

    Raises:
        TokenizerError: the template cannot be used for training.
    """
    if tokenizer.turn_end() is None:
        raise TokenizerError("The checkpoint's chat template ends an assistant's turn with no control token, so no end could be learnt")

    def render(values: dict[str, str], place: str) -> list[Piece]:
        try:
            return tokenizer.chat.parts(_messages(values[field], field, place))
        except TokenizerError as error:
            raise RecordError(f"{place}: {error}") from None

    return render


def _messages(text: str, field: str, place: str) -> list[dict[str, str]]:
    shape = '{"role": system, user or assistant, "content": text}'
    wrong = RecordError(f"{place}: field {field} is not a chat; it must be a list of {shape} that ends with an assistant turn")
    try:
        messages = [{"role": message["role"], "content": message["content"]} for message in json.loads(text)]
        json.dumps(messages, ensure_ascii=False).encode()  # JSON can hold half a surrogate pair, which is no text
    except (ValueError, TypeError, KeyError):
        raise wrong from None
    good = all(isinstance(message["content"], str) and message["role"] in ROLES for message in messages)
    if not good or not messages or messages[-1]["role"] != "assistant" or not messages[-1]["content"]:
        raise wrong
    return messages
