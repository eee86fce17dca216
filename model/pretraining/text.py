"""Public text from a folder, cut into windows of equal length: some to train on, some held out."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.errors import RecipeError
from model.text.tokenizer import Tokenizer
from model.training import Batch

_HELD_OUT_EVERY = 20
_MOST_HELD_OUT = 64


@dataclass(frozen=True, slots=True)
class Windows:
    """Token windows [n, length] that do not overlap."""

    training: Tensor
    held_out: Tensor


def check_folder(folder: Path) -> None:
    """Raises RecipeError unless there is such a folder: to be asked before work that takes long."""
    if not folder.is_dir():
        raise RecipeError(f"{folder} is {'a file: give its folder' if folder.exists() else 'no folder: give one with text'}")


def read_texts(folder: Path) -> Iterator[str]:
    """Texts below a folder, by path: whole *.txt files, and of *.jsonl files the field `text` of each line.

    Lines whose field `split` is not "train" are left out.

    Raises:
        RecipeError: there is none, or a file is not what its name says.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".txt", ".jsonl") and path.is_file())
    if not paths:
        raise RecipeError(f"{folder} holds no text: give a folder with *.txt files, or *.jsonl files whose lines have a field text")
    for path in paths:
        try:
            content = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise RecipeError(f"{path} is not UTF-8 text: convert it or take it out of the folder") from None
        yield from [content] if path.suffix == ".txt" else _fields(path, content)


def cut_windows(texts: Iterable[str], tokenizer: Tokenizer, length: int) -> Windows:
    """All texts in their order, each with its end token, as windows of `length` tokens; every twentieth is held out, 64 at most.

    Raises:
        RecipeError: the texts fill fewer than two windows.
    """
    ids = np.concatenate([np.array([*tokenizer.encode(text), tokenizer.eos_token_id], np.int64) for text in texts])
    count = len(ids) // length
    if count < 2:
        raise RecipeError(f"The text has {len(ids)} tokens and {2 * length} are needed at least: add text")
    windows = torch.from_numpy(ids[: count * length]).view(count, length)
    held_out = torch.arange(count) % _HELD_OUT_EVERY == 0
    held_out &= held_out.cumsum(0) <= _MOST_HELD_OUT
    return Windows(windows[~held_out], windows[held_out])


def window_batches(windows: Tensor, rows: int, rng: random.Random) -> Iterator[Batch]:
    """Endless batches of up to `rows` windows, each epoch in another order; every token is a target."""
    while True:
        order = rng.sample(range(len(windows)), len(windows))
        for start in range(0, len(order), rows):
            ids = windows[order[start : start + rows]]
            yield Batch(ids, ids, torch.ones_like(ids, dtype=torch.bool))


def _fields(path: Path, content: str) -> Iterator[str]:
    for number, line in enumerate(content.split("\n"), start=1):  # a JSON string may hold other line separators
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if record.get("split", "train") == "train":
                yield str(record["text"])
        except (ValueError, KeyError, AttributeError):
            raise RecipeError(f"{path} line {number} is no record with a field text: correct it or take the file out") from None
