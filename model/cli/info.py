"""`consortium model info`: sizes and hash of a checkpoint, what training on it takes, or what a release adds to its base."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from model.cli.options import Held
from model.sizes import shown_size

_LABELS = {"stored_bytes": "stored", "held_bytes": "weights in memory"}
_SIZES = {"stored_bytes": "{} {}", "held_bytes": "{} ({})"}
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
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of a row, with --adapters, instead of the plan's max_tokens.")] = None,
    experts_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of a layer's experts that ESFT is assumed to choose; expert_top_p if absent.")
    ] = None,
    dtype: Annotated[Held | None, typer.Option(help="How training holds the base, with --adapters; stored if absent.")] = None,
    no_hash: Annotated[bool, typer.Option("--no-hash", help="Do not take the hash, which reads every weight.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Show architecture, parameters, stored types, cache bytes per token and hash; of a release, its base and what was trained."""
    if adapters is None:
        _refuse_without_plan({"--tokens": tokens, "--experts-share": experts_share, "--dtype": dtype})
    from model.release import is_release

    facts = _release(model) if is_release(model) else _checkpoint(model, not no_hash)
    if adapters is not None:
        facts["training"] = _training(model, adapters, tokens, experts_share, dtype or Held.stored)
    typer.echo(json.dumps(facts) if as_json else "\n".join(_lines(facts)))


def _refuse_without_plan(given: dict[str, object]) -> None:
    for option, value in given.items():
        if value is not None:
            raise typer.BadParameter(f"{option} is for the memory of training: give --adapters PLAN too, or leave it out.")


def _checkpoint(model: Path, hashed: bool) -> dict[str, Any]:
    """Counts what `generate` would load, after the same comparison of the tensors with config.json."""
    from model.checkpoint.inventory import count_checkpoint
    from model.checkpoint.loading import lay_out
    from model.release import base_directory

    directory = base_directory(model)
    lay_out(directory)
    return asdict(count_checkpoint(directory, hashed))


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
        "targets": list(release.adapter.targets),
        "lora_rank": release.adapter.lora_rank,
        "rank_pattern": dict(release.adapter.rank_pattern),
        "expert_mode": release.adapter.expert_mode,
        "expert_rank": release.adapter.expert_rank,
        "experts": {str(layer): list(chosen) for layer, chosen in release.experts.items()},
    }


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    for name, value in facts.items():
        if name == "training":
            yield from _table(value)
        else:
            yield f"{_LABELS.get(name, name.replace('_', ' ')):24}{_shown(name, value)}"


def _shown(name: str, value: Any) -> str:
    if name in _SIZES:
        return ", ".join(_SIZES[name].format(shown_size(size), kind) for kind, size in value.items())
    if name == "experts":
        return "; ".join(f"layer {layer}: {', '.join(map(str, chosen))}" for layer, chosen in value.items() if chosen) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {entry}" for key, entry in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "not taken" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _table(training: dict[str, Any]) -> Iterator[str]:
    plain, frugal, machine = training["plain"], training["checkpointing"], training["machine"]
    yield ""
    yield f"training {training['trained_parameters']:,} parameters on {training['batch_size']} rows of {training['tokens']} tokens"
    yield f"{training['assumption']}; the base is held in {training['held']}"
    yield f"{'memory':28}{'plain':>12}{'checkpointing':>16}"
    for name in sorted(filter(plain["parts"].get, plain["parts"]), key=plain["parts"].__getitem__, reverse=True):
        yield f"{_PARTS[name]:28}{shown_size(plain['parts'][name]):>12}{shown_size(frugal['parts'][name]):>16}"
    yield f"{'total':28}{shown_size(plain['total']):>12}{shown_size(frugal['total']):>16}"
    yield f"{machine['kind'] + ' of ' + shown_size(machine['size']):28}{_fits(plain):>12}{_fits(frugal):>16}"


def _fits(column: dict[str, Any]) -> str:
    return "fits" if column["fits"] else "too large"
