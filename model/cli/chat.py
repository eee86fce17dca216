"""`consortium model chat`: a conversation with a model, by its checkpoint's chat template."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model.cli.options import (
    BaseOption,
    DeviceOption,
    Held,
    HeldOption,
    SeedOption,
    TemperatureOption,
    TopPOption,
    torch_dtype,
    usable_device,
    within_context,
)

if TYPE_CHECKING:
    from model.decoding.generation import Sampling
    from model.text.tokenizer import Tokenizer
    from model.transformer import DeepseekV3

QUIT = "/quit"


def chat(
    model: Annotated[Path, typer.Argument(help="A version's directory, a checkpoint, or a bundled base's name.")],
    base: BaseOption = None,
    system: Annotated[str, typer.Option(help="What the model is told before the first line.")] = "",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Stop an answer after so many tokens at the latest.")] = 256,
    temperature: TemperatureOption = 0.0,
    top_p: TopPOption = 1.0,
    seed: SeedOption = 0,
    dtype: HeldOption = Held.float32,
    device: DeviceOption = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output, with all turns, at the end.")] = False,
) -> None:
    """Answer each line of standard input, until its end or /quit."""
    import torch

    from model.decoding.generation import Sampling
    from model.export import open_model
    from model.text.tokenizer import load_tokenizer

    sampling = Sampling(temperature, top_p, generator=torch.Generator(usable_device(device)).manual_seed(seed))
    net, directory = open_model(model, base, torch_dtype(dtype), device)
    tokenizer = load_tokenizer(directory)
    turn_end = tokenizer.turn_end()
    ends = tokenizer.eos_token_ids if turn_end is None else (turn_end, *tokenizer.eos_token_ids)

    speaker = _Speaker(net, replace(sampling, eos_token_id=ends))

    def answer(ids: list[int]) -> list[int]:
        return list(takewhile(lambda token: token not in ends, speaker.continued(ids, max_new_tokens)))

    turns = [{"role": "system", "content": system}] if system else []
    while (line := _next_line()) is not None:
        turns.append({"role": "user", "content": line})
        turns.append({"role": "assistant", "content": _reply(turns, tokenizer, answer)})
        if not as_json:
            typer.echo(turns[-1]["content"])
    if as_json:
        typer.echo(json.dumps({"turns": turns}))


def _reply(turns: list[dict[str, str]], tokenizer: Tokenizer, answer: Callable[[list[int]], list[int]]) -> str:
    """The text of the next assistant's turn."""
    pieces = tokenizer.chat.pieces(turns, add_generation_prompt=True)
    [prompt] = tokenizer.encode_pieces([[(piece.text, piece.own) for piece in pieces]])
    return tokenizer.decode(answer(prompt)).strip()


class _Speaker:
    """Generates, and keeps what it has read: each turn of a conversation is the one before and a little more."""

    def __init__(self, net: DeepseekV3, sampling: Sampling) -> None:
        from model.decoding.prefix_cache import PrefixCache, adapter_sha256

        self._net, self._sampling = net, sampling
        self._prefixes, self._adapter = PrefixCache(net, net.config.max_position_embeddings), adapter_sha256(net)

    def continued(self, prompt: list[int], count: int) -> list[int]:
        """Up to `count` tokens after `prompt`, within the network's context."""
        import torch

        from model.decoding.generation import generate

        count = within_context(len(prompt), count, self._net.config.max_position_embeddings, "conversation", "begin a new one")
        ids = torch.tensor([prompt], device=self._net.model.embed_tokens.weight.device)
        cache, _ = self._prefixes.cached(ids, self._adapter, len(prompt) + count)
        tokens = generate(self._net, ids, count, self._sampling, cache=cache).tokens
        self._prefixes.store(tokens, self._adapter, cache)
        return [int(token) for token in tokens[0, len(prompt) :]]


def _next_line() -> str | None:
    """The next line that says something; None at the end of input or at /quit."""
    for line in iter(_read_line, ""):
        text = line.strip()
        if text:
            return None if text == QUIT else text
    return None


def _read_line() -> str:
    """A line with its end, or nothing at the end of input; bytes that are no valid UTF-8 become U+FFFD."""
    if sys.stdin.isatty():
        typer.echo("> ", nl=False, err=True)
    return sys.stdin.buffer.readline().decode(errors="replace")
