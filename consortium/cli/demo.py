"""`consortium demo`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

DEMO = Path("consortium-demo")
PROMPT = r"note: Pt says has wheezing attack, mother had migraine\ncode:"  # as a shell reads it

RoundsOption = Annotated[int | None, typer.Option("--rounds", min=1, help="Fewer rounds, for a quick look.")]
BaselinesOption = Annotated[bool, typer.Option(" /--no-baselines", show_default=False, help="Without what it is compared with.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Run it anew, instead of going on or showing the last report.")]
DeploymentOption = Annotated[
    Path | None, typer.Option("--deployment", metavar="DIR", help="Only write a plan, and each hospital's notes in a file of its own.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as one JSON document and nothing else.")]


def demo(
    rounds: RoundsOption = None,
    baselines: BaselinesOption = True,
    overwrite: OverwriteOption = False,
    deployment: DeploymentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Four hospitals learn to code clinical notes together; the notes are written by this command into ./consortium-demo."""
    if deployment is not None:
        _write_deployment(deployment)
        return
    from consortium.cli.simulate import run_and_show
    from consortium.demo.records import write_demo_records
    from consortium.simulation import simulate
    from protocols.files import write_file

    DEMO.mkdir(exist_ok=True)
    write_demo_records(DEMO / "records.jsonl", seed=0)
    write_file(DEMO / "plan.toml", files("consortium.demo").joinpath("plan.toml").read_bytes())
    out = DEMO / "run"
    terms = partial(simulate, DEMO / "plan.toml", out, rounds=rounds, baselines=baselines, overwrite=overwrite)
    report = run_and_show(lambda watcher: terms(on_event=watcher, environment=os.environ), as_json)
    if not as_json:
        typer.echo("Next, try:")
        for command in _next_commands(report["model"], out):
            typer.echo(f"  consortium {command}")


def _write_deployment(folder: Path) -> None:
    from consortium.demo.deployment import write_deployment

    names = write_deployment(folder, seed=0)
    typer.echo(f"{folder} holds plan.toml and the notes of {', '.join(names)}")


def _next_commands(model: str | None, out: Path) -> Iterator[str]:
    """A first look at what came out; `model` is None where the run released none."""
    registry = out / "registry.db"
    yield f"model generate {model} --prompt $'{PROMPT}'" if model else f"coordinator rounds demo --registry {registry}"
    yield f"coordinator verify --registry {registry}"
    yield "new triage --records YOUR.csv"
