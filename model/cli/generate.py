"""`consortium model generate`: what a model says after a prompt."""

from __future__ import annotations

import json
from dataclasses import replace
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
    from model.decoding.generation import Generation, Sampling
    from model.transformer import DeepseekV3


def generate(
    model: Annotated[Path, typer.Argument(help="A version's directory, a checkpoint, or a bundled base's name.")],
    prompt: Annotated[str, typer.Option(help="Text to continue.")],
    base: BaseOption = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Stop after so many tokens at the latest.")] = 32,
    temperature: TemperatureOption = 0.0,
    top_p: TopPOption = 1.0,
    seed: SeedOption = 0,
    speculative: Annotated[bool, typer.Option("--speculative", help="Draft with the MTP modules; greedy text stays the same.")] = False,
    draft_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens to draft at a time with --speculative; 1 if absent.")] = None,
    dtype: HeldOption = Held.float32,
    device: DeviceOption = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Continue a prompt until the end token, or the end of what the model reads."""
    if draft_tokens is not None and not speculative:
        raise typer.BadParameter("--draft-tokens is for drafting: give --speculative too, or leave it out.")
    import torch

    from model.decoding.generation import Sampling
    from model.errors import GenerationError
    from model.export import open_model
    from model.text.tokenizer import load_tokenizer

    sampling = Sampling(temperature, top_p, generator=torch.Generator(usable_device(device)).manual_seed(seed))
    net, directory = open_model(model, base, torch_dtype(dtype), device)
    tokenizer = load_tokenizer(directory)
    ids = tokenizer.encode(prompt)
    if not ids:
        raise GenerationError("The prompt is empty: give --prompt some text.")
    sampling = replace(sampling, eos_token_id=tokenizer.eos_token_ids)
    count = within_context(len(ids), max_new_tokens, net.config.max_position_embeddings, "prompt", "shorten it")
    result = _continue(net, ids, count, sampling, (draft_tokens or 1) if speculative else 0)
    new = result.tokens[0, len(ids) :].tolist()
    text = tokenizer.decode(new)
    if as_json:
        typer.echo(json.dumps({"prompt": prompt, "text": text, "tokens": len(new), "acceptance": result.acceptance}))
        return
    typer.echo(text)
    if speculative:
        typer.echo(f"{result.accepted} of {result.drafted} drafted tokens accepted", err=True)


def _continue(net: DeepseekV3, ids: list[int], max_new_tokens: int, sampling: Sampling, draft_tokens: int) -> Generation:
    import torch

    from model.decoding.generation import generate
    from model.decoding.speculation import generate_speculatively

    prompt = torch.tensor([ids], device=net.model.embed_tokens.weight.device)
    with torch.inference_mode():
        if draft_tokens:
            return generate_speculatively(net, prompt, max_new_tokens, sampling, draft_tokens=draft_tokens)
        return generate(net, prompt, max_new_tokens, sampling)
