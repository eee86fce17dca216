"""`consortium coordinator runs`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from coordinator.cli.options import HomeToRead, JsonOption, RegistryOption, Source, located, opened
from coordinator.cli.printing import moment, print_json, print_table, timestamp

if TYPE_CHECKING:
    from coordinator.registry.records import Run
    from coordinator.stage_record import Stage

COLUMNS = ("run", "state", "rounds", "submitted (UTC)", "ended (UTC)")


def runs(registry: RegistryOption = None, home: HomeToRead = None, as_json: JsonOption = False) -> None:
    """List all runs, where they are, and whom they wait for."""
    from coordinator.waiting import outlook

    place = located(registry, home)
    with opened(place) as source:
        found = source.runs()
        done = {run.run: max((one.number for one in source.rounds(run.run)), default=0) for run in found}
    stages = {run.run: stage for run in found if (stage := stage_of(place, run)) is not None}
    if as_json:
        print_json({"runs": [_document(run, done[run.run], stages.get(run.run)) for run in found]})
        return
    print_table("Runs", COLUMNS, [_row(run, done[run.run]) for run in found])
    for run in found:
        if run.reason:
            typer.echo(f"{run.run}: {outlook(run)}")
        if run.run in stages:
            typer.echo(f"{run.run}: {stages[run.run].line}")


def _row(run: Run, done: int) -> tuple[str, ...]:
    return run.run, run.state.value, f"{done} of {run.rounds}", moment(run.created_at), moment(run.ended_at)


def stage_of(place: Source, run: Run) -> Stage | None:
    """The stage in which a running run waits for somebody, where this machine keeps the run's folder."""
    from coordinator.registry.states import RunState
    from coordinator.stage_record import read_stage

    return read_stage(place.runs / run.run) if run.state is RunState.RUNNING else None


def _document(run: Run, done: int, stage: Stage | None) -> dict[str, Any]:
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
        "stage": None if stage is None else asdict(stage),
        "created_at": timestamp(run.created_at),
        "ended_at": timestamp(run.ended_at),
    }
