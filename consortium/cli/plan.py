"""`consortium plan check`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

plan = typer.Typer(no_args_is_help=True, help="Plans: what they train, cost and reveal.")


@plan.callback()
def _group() -> None:
    """Plans: what they train, cost and reveal."""


@plan.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="PLAN", help="The plan, a TOML file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Say what a plan trains, what a round costs, and what an institution reveals."""
    from consortium.plan_check import check_costs

    costs = check_costs(path, time.perf_counter)
    if as_json:
        typer.echo(json.dumps(costs, indent=2))
        return
    typer.echo(f"plan {costs['name']} ({costs['sha256'][:12]}): {_rounds(costs['rounds'])}")
    typer.echo(f"trained parameters: {costs['trained_parameters']:,} (experts that the plan will choose not counted)")
    typer.echo(f"memory for training in float32: about {costs['memory_bytes'] / 1e6:.0f} MB")
    typer.echo(f"largest upload of a round: about {costs['upload_bytes'] / 1e6:.1f} MB per institution, and as much download")
    seconds, how = costs["seconds_per_round"], costs["seconds_measured_on"]
    said = "not measured, because the base is large" if seconds is None else f"about {seconds:.1f} s per institution ({how})"
    typer.echo(f"training in a round, without measuring test records: {said}")
    for name, needed in ((costs["privacy"] or {}).get("institutions") or {}).items():
        typer.echo(f"noise: {_noise(name, needed)}")
    uneven, needed = costs["expert_unevenness"], costs["expert_unevenness_needed"]
    if uneven is not None:
        fault = "" if uneven >= needed else '; the run would probably end there: set trainable.experts to "all" or "none"'
        typer.echo(f"routing: {uneven:.1%} would have to move for equal use of all experts, and a choice needs {needed:.0%}{fault}")
    for sentence in costs["needs"]:
        typer.echo(f"takes part: {sentence}")
    typer.echo("an institution reveals:")
    for sentence in costs["reveals"]:
        typer.echo(f"  - {sentence}")


def _rounds(count: int) -> str:
    return "1 round" if count == 1 else f"{count} rounds"


def _noise(name: str, needed: dict[str, float]) -> str:
    return (
        f"{name} with {needed['units']:,} units needs a noise multiplier of {needed['noise_multiplier']:.3g}, and a delta below "
        f"{needed['delta_below']:.2g}"
    )
