"""`consortium model info`: sizes and hash of a checkpoint, what training on it takes, or what a release adds to its base."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from model.cli.options import Held, HeldOption

_PARTS = {
    "base": "frozen base",
    "trained": "trained tensors",
    "gradients": "gradients",
    "moments": "AdamW's moments",
    "activations": "activations",
    "in_flight": "backward pass of a block",
    "logits": "one chunk of logits",
    "dequantised": "largest dequantised weight",
}


def info(
    model: Annotated[Path, typer.Argument(help="A version's directory, a checkpoint, or a bundled base's name.")],
    adapters: Annotated[Path | None, typer.Option(metavar="PLAN", help="State the memory that training by this plan takes.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of a row, instead of the plan's max_tokens.")] = None,
    experts_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of a layer's experts that ESFT is assumed to choose; expert_top_p if absent.")
    ] = None,
    dtype: HeldOption = Held.stored,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Show architecture, parameters, stored types, cache bytes per token and hash; of a release, its base and what was trained."""
    from model.release import is_release

    facts = _release(model) if is_release(model) else _checkpoint(model)
    if adapters is not None:
        facts["training"] = _training(model, adapters, tokens, experts_share, dtype)
    typer.echo(json.dumps(facts) if as_json else "\n".join(_lines(facts)))


def _checkpoint(model: Path) -> dict[str, Any]:
    from model.checkpoint.inventory import count_checkpoint
    from model.release import base_directory

    return asdict(count_checkpoint(base_directory(model)))


def _training(model: Path, plan: Path, tokens: int | None, share: float | None, held: Held) -> dict[str, Any]:
    from model.cli.training_memory import this_machine, training_facts
    from model.errors import ConfigError
    from model.release import base_directory, is_release

    if is_release(model):
        raise ConfigError(f"{model} is a release, and training starts from its base: give the base with --adapters")
    return training_facts(base_directory(model), plan, tokens, share, held, this_machine())


def _release(directory: Path) -> dict[str, Any]:
    from model.release import read_release

    release = read_release(directory)
    return {
        "name": release.name,
        "version": release.version,
        "base": release.base_name,
        "base_sha256": release.base_sha256,
        "trained_parameters": sum(values.size for values in release.tensors.values()),
        "experts": {str(layer): list(chosen) for layer, chosen in release.experts.items()},
    }


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    for name, value in facts.items():
        if name == "training":
            yield from _table(value)
        elif name == "stored_bytes":
            yield f"{'stored':24}{', '.join(f'{_size(size)} {dtype}' for dtype, size in value.items())}"
        else:
            yield f"{name.replace('_', ' '):24}{f'{value:,}' if isinstance(value, int) else value}"


def _table(training: dict[str, Any]) -> Iterator[str]:
    plain, frugal, machine = training["plain"], training["checkpointing"], training["machine"]
    yield ""
    yield f"training {training['trained_parameters']:,} parameters on {training['batch_size']} rows of {training['tokens']} tokens"
    yield f"{training['assumption']}; the base is held in {training['held']}"
    yield f"{'memory':28}{'plain':>12}{'checkpointing':>16}"
    for name in sorted(filter(plain["parts"].get, plain["parts"]), key=plain["parts"].__getitem__, reverse=True):
        yield f"{_PARTS[name]:28}{_size(plain['parts'][name]):>12}{_size(frugal['parts'][name]):>16}"
    yield f"{'total':28}{_size(plain['total']):>12}{_size(frugal['total']):>16}"
    yield f"{machine['kind'] + ' of ' + _size(machine['size']):28}{_fits(plain):>12}{_fits(frugal):>16}"


def _fits(column: dict[str, Any]) -> str:
    return "fits" if column["fits"] else "too large"


def _size(size: int) -> str:
    """Decimal units, three digits."""
    value, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g} {units[0]}"
