"""`consortium coordinator health`."""

from __future__ import annotations

from pathlib import Path

import typer

from coordinator.cli.options import HomeOption, JsonOption
from coordinator.cli.printing import print_json


def health(home: HomeOption = Path(), as_json: JsonOption = False) -> None:
    """Say whether the operator's side on this machine works; the exit code is 0 if it does and 1 if not."""
    from coordinator.operator_home import open_operator_home
    from coordinator.serve.health import problem_of
    from protocols.errors import ConsortiumError

    try:
        problem = problem_of(open_operator_home(home))
    except ConsortiumError as error:
        if not as_json:
            raise
        problem = str(error)
    if as_json:
        print_json({"ok": problem is None, "problem": problem})
    elif problem is not None:
        typer.echo(problem, err=True)
    else:
        typer.echo("the supervisor, the fence, the registry service and the SuperLink answer")
    if problem is not None:
        raise typer.Exit(1)
