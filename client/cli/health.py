"""`consortium client health`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from client.cli.ledger import InstitutionOption, JsonOption, print_json

OnlyOption = Annotated[
    Literal["supernode", "node"] | None, typer.Option("--only", help="One of the two, where they run as two users or in two containers.")
]


def health(institution: InstitutionOption = None, only: OnlyOption = None, as_json: JsonOption = False) -> None:
    """Say whether SuperNode and node on this machine work; the exit code is 0 if they do and 1 if not. The operator is not asked."""
    from client.health import PARTS, problem_of
    from protocols.errors import ConsortiumError

    parts = (only,) if only else PARTS
    try:
        problem = problem_of(institution or Path(), parts)
    except ConsortiumError as error:
        problem = str(error)
    if as_json:
        print_json({"schema": 1, "ok": problem is None, "parts": list(parts), "problem": problem})
    elif problem is not None:
        typer.echo(problem, err=True)
    else:
        typer.echo(f"{' and '.join(parts)} answer" if only is None else f"the {only} answers")
    if problem is not None:
        raise typer.Exit(1)
