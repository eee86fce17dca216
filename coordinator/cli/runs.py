"""`consortium coordinator runs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from coordinator.cli.options import JsonOption, RegistryOption, opened
from coordinator.cli.printing import moment, print_json, print_table, timestamp

if TYPE_CHECKING:
    from coordinator.registry.records import Run

COLUMNS = ("run", "state", "rounds", "submitted (UTC)", "ended (UTC)")


def runs(registry: RegistryOption = None, as_json: JsonOption = False) -> None:
    """List all runs and where they are."""
    with opened(registry) as source:
        found = source.runs()
        done = {run.run: max((one.number for one in source.rounds(run.run)), default=0) for run in found}
    if as_json:
        print_json({"runs": [_document(run, done[run.run]) for run in found]})
        return
    print_table("Runs", COLUMNS, [_row(run, done[run.run]) for run in found])
    for run in found:
        if run.reason:
            typer.echo(f"{run.run}: {run.reason}")


def _row(run: Run, done: int) -> tuple[str, ...]:
    return run.run, run.state.value, f"{done} of {run.rounds}", moment(run.created_at), moment(run.ended_at)


def _document(run: Run, done: int) -> dict[str, Any]:
    return {
        "run": run.run,
        "plan": {"name": run.plan_name, "sha256": run.plan_sha256},
        "base_sha256": run.base_sha256,
        "terms_sha256": run.terms_sha256,
        "seed": run.seed,
        "metric": run.metric,
        "higher_is_better": run.higher_is_better,
        "state": run.state.value,
        "wanted": run.wanted.value,
        "reason": run.reason,
        "rounds": run.rounds,
        "rounds_done": done,
        "created_at": timestamp(run.created_at),
        "ended_at": timestamp(run.ended_at),
    }
