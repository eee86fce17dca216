"""`consortium simulate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from coordinator.events import Event


def simulate(
    plan: Annotated[Path, typer.Argument(help="The plan, a TOML file with a [simulation] table.")],
    out: Annotated[Path | None, typer.Option(help="Directory of the run; PLAN's name with -run by default.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the plan's seed.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Instead of the plan's rounds.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")] = False,
) -> None:
    """Run a whole consortium in this process: every message serialised, every sum secure."""
    import torch

    from consortium.simulation import simulate as run

    torch.set_num_threads(1)  # small matrices lose more to waiting threads than they gain
    report = run(plan, out or Path(f"{plan.stem}-run"), seed=seed, rounds=rounds, on_event=(lambda _: None) if as_json else _show)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    typer.echo(
        f"{report['metric']}: base {report['base']:.4f}, federated {report['federated']:.4f} on {report['test_records']} test records"
    )
    typer.echo(f"released model: {report['model'] or 'none, the plan requires an improvement over the base'}")


def _show(event: Event) -> None:
    from coordinator.events import RoundFinished

    if isinstance(event, RoundFinished):
        loss = "" if event.loss is None else f"  loss {event.loss:.4f}"
        metric = "" if event.metric is None else f"  metric {event.metric:.4f}"
        size = f"{event.bytes_up / 1e6:.1f} MB up, {event.bytes_down / 1e6:.1f} MB down"
        typer.echo(f"round {event.round}: {event.institutions} institutions{loss}{metric}  {size}  {event.seconds:.1f} s")
