"""`consortium model pretrain`: a base from a recipe and the books it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from model.pretraining.recipe import Recipe
    from model.pretraining.run import Step


def pretrain(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (TOML).")],
    data: Annotated[Path, typer.Option(help="Folder that holds the recipe's books.")],
    out: Annotated[Path, typer.Option(help="New directory for the checkpoint.")],
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; another number gives other bytes.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Train a tokenizer and a small base from books; prints the hash of the result."""
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from model.errors import ModelError
    from model.pretraining.recipe import load_recipe
    from model.pretraining.run import pretrain as follow

    torch.set_num_threads(threads)
    try:
        content = load_recipe(recipe)
        with Progress(console=Console(stderr=as_json)) as progress:
            total = content.optimisation.steps + content.optimisation.mtp_steps
            shown = progress.add_task("reading books", total=total)
            sha256 = follow(content, data, out, lambda step: _show(progress, shown, step))
    except ModelError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    if as_json:
        named = content.result_sha256
        typer.echo(json.dumps({"schema": 1, "path": str(out), "sha256": sha256, "named_sha256": named, "as_named": sha256 == named}))
    else:
        typer.echo(_verdict(content, sha256))


def _show(progress: Progress, shown: TaskID, step: Step) -> None:
    progress.update(shown, advance=1, description=f"{step.stage}: loss {step.loss:.3f}")


def _verdict(recipe: Recipe, sha256: str) -> str:
    if recipe.result_sha256 is None:
        return f"{sha256}\nThe recipe names no result: write result_sha256 into it."
    if sha256 == recipe.result_sha256:
        return f"{sha256}\nIt is the result that the recipe names."
    return f"{sha256}\nThe recipe names another result: other machines and thread counts round differently."
