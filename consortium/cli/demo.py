"""`consortium demo`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

DEMO = Path("consortium-demo")

RoundsOption = Annotated[int | None, typer.Option("--rounds", min=1, help="Fewer rounds, for a quick look.")]
BaselinesOption = Annotated[bool, typer.Option(" /--no-baselines", show_default=False, help="Without what it is compared with.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Run it anew, instead of going on or showing the last report.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as one JSON document and nothing else.")]


def demo(
    rounds: RoundsOption = None, baselines: BaselinesOption = True, overwrite: OverwriteOption = False, as_json: JsonOption = False
) -> None:
    """Four hospitals learn to code clinical notes together; the notes are written by this command into ./consortium-demo."""
    from consortium.cli.simulate import run_and_show
    from consortium.demo.records import write_demo_records
    from protocols.files import write_file

    DEMO.mkdir(exist_ok=True)
    write_demo_records(DEMO / "records.jsonl", seed=0)
    write_file(DEMO / "plan.toml", files("consortium.demo").joinpath("plan.toml").read_bytes())
    run_and_show(DEMO / "plan.toml", DEMO / "run", seed=None, rounds=rounds, baselines=baselines, overwrite=overwrite, as_json=as_json)
    if not as_json:
        typer.echo("Next, try:")
        typer.echo("  consortium coordinator rounds demo --registry consortium-demo/run/registry.db")
        typer.echo("  consortium coordinator verify --registry consortium-demo/run/registry.db")
        typer.echo("  consortium new triage --records YOUR.csv")
