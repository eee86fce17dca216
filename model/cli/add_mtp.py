"""`consortium model add-mtp`: a base that can draft, from one that cannot."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from model.pretraining.modules import Added


def add_mtp(
    base: Annotated[Path, typer.Argument(help="A checkpoint without MTP modules, or a bundled base's name.")],
    out: Annotated[Path, typer.Argument(help="New directory for the base with modules.")],
    data: Annotated[Path, typer.Option(help="Folder of public text: *.txt, or *.jsonl with a field text.")],
    modules: Annotated[int, typer.Option(min=1, max=4, help="Modules to add: each drafts one token further ahead.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 600,
    tokens_per_step: Annotated[int, typer.Option(min=64, help="Tokens in a step.")] = 2048,
    window: Annotated[int, typer.Option(min=16, help="Tokens in a row, at most: what the base was made for.")] = 128,
    learning_rate: Annotated[float, typer.Option(min=1e-8, help="AdamW's rate at its peak.")] = 3e-3,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the start and of the order.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; another number gives other bytes.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Train modules for speculative generation on public text; the base's own weights stay as they are."""
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from model.pretraining.modules import ModuleTraining, add_mtp
    from model.release import base_directory

    torch.set_num_threads(threads)
    settings = ModuleTraining(modules, steps, tokens_per_step, window, learning_rate, seed)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        shown = progress.add_task("reading text", total=steps)

        def show(_: int, loss: float) -> None:
            progress.update(shown, advance=1, description=f"loss {loss:.3f}")

        added = add_mtp(base_directory(base), out, data, settings, show)
    typer.echo(json.dumps({"schema": 1, "path": str(out), **asdict(added)}) if as_json else _summary(out, added))


def _summary(out: Path, added: Added) -> str:
    pairs = enumerate(zip(added.acceptance_before, added.acceptance_after, strict=True), start=1)
    lines = [
        f"Module {depth}: {before:.1%} of drafts accepted on held-out text before training, {after:.1%} after"
        for depth, (before, after) in pairs
    ]
    return "\n".join([f"drafting works: {out}", f"sha256 {added.sha256}", *lines])
