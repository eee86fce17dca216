"""`consortium model info`: sizes and hash of a checkpoint, or what a release adds to its base."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer


def info(
    model: Annotated[Path, typer.Argument(help="A version's directory, a checkpoint, or a bundled base's name.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Show parameters, cache bytes per token and hash; of a release, its base and what was trained."""
    from model.inventory import count_checkpoint
    from model.release import base_directory, is_release

    facts = _release(model) if is_release(model) else asdict(count_checkpoint(base_directory(model)))
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        typer.echo(f"{name.replace('_', ' '):24}{f'{value:,}' if isinstance(value, int) else value}")


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
