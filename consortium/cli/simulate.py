"""`consortium simulate`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from consortium.report import Report
    from consortium.simulation import Watcher

PlanArgument = Annotated[Path, typer.Argument(metavar="PLAN.toml", help="The plan, a TOML file with a \\[simulation] table.")]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of the run; consortium-NAME if left out.")]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Instead of the plan's seed.")]
RoundsOption = Annotated[int | None, typer.Option("--rounds", min=1, help="Instead of the plan's rounds.")]
BaselinesOption = Annotated[bool, typer.Option(" /--no-baselines", show_default=False, help="Without what it is compared with.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace another run in DIR.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="Where the networks are held: cpu (unless given), cuda or cuda:N.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as one JSON document and nothing else.")]


def simulate(
    plan: PlanArgument,
    out: OutOption = None,
    seed: SeedOption = None,
    rounds: RoundsOption = None,
    baselines: BaselinesOption = True,
    overwrite: OverwriteOption = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a whole consortium in this process: every message serialised, every sum secure.

    Started again with the same DIR, plan and seed it goes on, on the same device, after the last finished round.
    """
    from consortium.simulation import simulate as run

    def started(watcher: Watcher) -> Report:
        return run(
            plan, out, seed=seed, rounds=rounds, baselines=baselines, overwrite=overwrite, device=device,
            on_event=watcher, environment=os.environ,
        )  # fmt: skip

    run_and_show(started, as_json)


def run_and_show(run: Callable[[Watcher], Report], as_json: bool) -> Report:
    """Simulates with live progress, then prints the table and draws the picture; with `as_json` only the document."""
    from rich.console import Console

    from consortium.picture import draw
    from consortium.progress import LiveProgress
    from consortium.summary import print_summary

    console = Console(stderr=as_json, quiet=as_json)
    try:
        with LiveProgress(console) as progress:
            report = run(progress)
    except KeyboardInterrupt:
        typer.echo("Stopped; the same command goes on after the last finished round.", err=True)
        raise typer.Exit(130) from None
    if not progress.seen_anything:
        console.print(f"{report.path.parent} holds this run, finished; its report again:", highlight=False, soft_wrap=True)
    picture = report.path.with_name("picture.png")
    draw(report, picture)
    if as_json:
        typer.echo(json.dumps(report.document, indent=2, ensure_ascii=False))
    else:
        print_summary(report, console)
        console.print(f"Picture: {picture}", highlight=False, soft_wrap=True)
    return report
