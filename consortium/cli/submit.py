"""`consortium coordinator submit PLAN`: the front door knows bases, and the operator's side does the rest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.options import HomeOption, JsonOption

if TYPE_CHECKING:
    from coordinator.registry.registry import Registry

PlanArgument = Annotated[Path, typer.Argument(metavar="PLAN", help="The plan, a TOML file.")]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the institutions' answers to the plan.")]
POLL_SECONDS = 0.5
ALIKE = (
    "note: it begins from the same state as {runs}. Institutions open a sum of one state over one set of institutions alone, so that they "
    "refuse if others take part this time; then stop it, and submit the plan with another `seed`."
)


def submit(plan: PlanArgument, home: HomeOption = Path(), wait: WaitOption = True, as_json: JsonOption = False) -> None:
    """Submit a plan as a run, and show each institution's answer to it before the first round.

    The exit code is 1 if the run failed or was stopped meanwhile.
    """
    import os

    from consortium.bases import deployed_plan
    from coordinator.answers import answer_lines
    from coordinator.cli.options import at_home
    from coordinator.cli.printing import print_json
    from coordinator.registry.states import RunState
    from coordinator.serve.places import Places
    from coordinator.submission import begun_alike
    from coordinator.submission import submit as submit_plan
    from protocols.plan import load_plan

    with at_home(home) as (place, registry):
        complete, config = deployed_plan(load_plan(plan), plan.resolve().parent, place.settings.bases, place.folder)
        alike = begun_alike(registry, complete)
        name = submit_plan(registry, complete, config, Places(place).base(complete.base.sha256), os.urandom).run
        typer.echo(f"submitted as {name}", err=as_json)
        if alike:
            typer.echo(ALIKE.format(runs=", ".join(alike)), err=True)
        if wait:
            _wait(registry, name)
        run, answers, roster = registry.run(name), registry.answers(name), _roster(registry)
    if as_json:
        told = [{"institution": one.institution, "accepted": one.accepted, "reason": one.reason} for one in answers]
        print_json({"run": run.run, "state": run.state.value, "reason": run.reason, "answers": told})
    else:
        reason = f": {run.reason}" if run.reason else ""
        typer.echo("\n".join([*answer_lines(answers, roster), f"{run.run} is {run.state.value}{reason}"]))
    if run.state in (RunState.FAILED, RunState.STOPPED):
        raise typer.Exit(1)


def _wait(registry: Registry, name: str) -> None:
    """Until everybody answered, or the run has begun without some or ended; what is new is told as it comes."""
    import time

    from coordinator.answers import answer_lines
    from coordinator.registry.states import RunState

    told: set[str] = set()
    while registry.run(name).state in (RunState.SUBMITTED, RunState.ACCEPTING) and len(registry.answers(name)) < len(_roster(registry)):
        for line in answer_lines(registry.answers(name), ()):
            if line not in told:
                told.add(line)
                typer.echo(f"answered: {line}", err=True)
        time.sleep(POLL_SECONDS)


def _roster(registry: Registry) -> list[str]:
    return [one.name for one in registry.participants() if one.revoked_at is None]
