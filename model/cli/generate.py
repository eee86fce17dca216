"""`consortium model generate`: what a model says after a prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def generate(
    model: Annotated[Path, typer.Argument(help="A version's directory, a checkpoint, or a bundled base's name.")],
    prompt: Annotated[str, typer.Option(help="Text to continue.")],
    base: Annotated[Path | None, typer.Option(help="The release's base, if it is not bundled.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Stop after so many tokens at the latest.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Continue a prompt greedily, until the end token."""
    import torch

    from model.errors import GenerationError
    from model.export import open_model
    from model.tokenizer import load_tokenizer

    net, directory = open_model(model, base)
    tokenizer = load_tokenizer(directory)
    ids = tokenizer.encode(prompt)
    if not ids:
        raise GenerationError("The prompt is empty: give --prompt some text.")
    with torch.inference_mode():
        output = net.generate(torch.tensor([ids]), max_new_tokens, eos_token_id=tokenizer.eos_token_id)
    new = output[0, len(ids) :].tolist()
    text = tokenizer.decode(new)
    typer.echo(json.dumps({"prompt": prompt, "text": text, "tokens": len(new)}) if as_json else text)
