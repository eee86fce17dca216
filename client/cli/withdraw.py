"""`consortium client withdraw`: 0 is withdrawn, 1 something failed, 2 wrong use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.cli.ledger import InstitutionOption, JsonOption, opened, print_json, told

RunArgument = Annotated[str, typer.Argument(metavar="[RUN]", help="The run to leave; every run of this institution if left out.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="What the operator and the other institutions read.")]


def withdraw(run: RunArgument = "", reason: ReasonOption = "", institution: InstitutionOption = None, as_json: JsonOption = False) -> None:
    """End this institution's part in a run, or in all of them, for good; every model with its rounds is marked."""
    from client.withdrawing import withdraw as leave
    from protocols.identity import Identity

    folder = institution or Path()
    with told(as_json), opened(folder) as (ledger, membership):
        left = leave(ledger, Identity.load(membership.name, folder / "identity.key"), run, reason)
    if as_json:
        print_json({"schema": 1, "institution": membership.name, "runs": list(left.runs)})
    else:
        runs = ", ".join(left.runs) or "no run, as none was accepted"
        typer.echo(f"{membership.name} has withdrawn from {runs}; its node refuses from the next request on.")
