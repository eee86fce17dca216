"""`consortium coordinator submit PLAN`: the front door knows bases, and the operator's side does the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import HomeOption, JsonOption

PlanArgument = Annotated[Path, typer.Argument(metavar="PLAN", help="The plan, a TOML file.")]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for each institution's answer to the plan.")]
POLL_SECONDS = 0.5


def submit(plan: PlanArgument, home: HomeOption = Path(), wait: WaitOption = True, as_json: JsonOption = False) -> None:
    """Submit a plan as a run, and show each institution's answer to it before the first round."""
    import os
    import time

    from coordinator.answers import answer_lines, everyone_answered

    from consortium.bases import deployed_plan
    from coordinator.cli.options import at_home
    from coordinator.cli.printing import print_json
    from coordinator.operator_home import open_operator_home
    from coordinator.serve.places import Places
    from coordinator.submission import submit as submit_plan
    from protocols.plan import load_plan

    place = open_operator_home(home)
    complete, config = deployed_plan(load_plan(plan), plan.resolve().parent, place.settings.bases, place.folder)
    with at_home(home) as (_, registry):
        run = submit_plan(registry, complete, config, Places(place).base(complete.base.sha256), os.urandom)
        typer.echo(f"submitted as {run.run}", err=as_json)
        while wait and not everyone_answered(registry, run.run):
            time.sleep(POLL_SECONDS)
        run, answers = registry.run(run.run), registry.answers(run.run)
        lines = answer_lines(registry, run.run)
    if as_json:
        told = [{"institution": one.institution, "accepted": one.accepted, "reason": one.reason} for one in answers]
        print_json({"run": run.run, "state": run.state.value, "answers": told})
    else:
        typer.echo("\n".join(lines))
