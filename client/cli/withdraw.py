"""`consortium client withdraw`: 0 is withdrawn, 1 something failed, 2 wrong use."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.cli.ledger import InstitutionOption, JsonOption, WrongUse, YesOption, opened, print_json, told
from client.cli.terminal import echo_lines

if TYPE_CHECKING:
    from protocols.acceptance import Withdrawal
    from protocols.service import KeptWithdrawal

RunArgument = Annotated[
    str, typer.Argument(metavar="[RUN]", help="The run to leave, or the beginning of its id; every run of this institution if left out.")
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="What the operator and the other institutions read.")]


def withdraw(
    run: RunArgument = "",
    reason: ReasonOption = "",
    yes: YesOption = False,
    institution: InstitutionOption = None,
    as_json: JsonOption = False,
) -> None:
    """End this institution's part in a run, or in all of them, for good; every model with its rounds is marked."""
    from client.withdrawing import runs_to_leave, tell
    from client.withdrawing import withdraw as leave
    from protocols.identity import Identity

    folder = institution or Path()
    with told(as_json), opened(folder) as (ledger, membership):
        leaving = runs_to_leave(ledger, membership.name, run)
        if leaving and not yes:
            _confirm(membership.name, leaving, as_json)
        left = leave(ledger, Identity.load(membership.name, folder / "identity.key"), leaving, reason)
        models = tell(left, partial(_send, folder))
    runs = [statement.run for statement in left]
    if as_json:
        print_json({"schema": 1, "institution": membership.name, "runs": runs, "models": models})
        return
    typer.echo(f"{membership.name} has withdrawn from {', '.join(runs) or 'no run, as it was asked for none'}, and the coordinator knows.")
    if models:
        echo_lines([f"Released versions with its rounds, marked from now on: {', '.join(models)}"])


def _confirm(name: str, runs: tuple[str, ...], as_json: bool) -> None:
    """Asks a person. Raises WrongUse where none can be asked."""
    if as_json:
        raise WrongUse("with --json nobody can be asked; say --yes")
    typer.confirm(f"{name} leaves {', '.join(runs)}, and there is no way back into a run. Withdraw?", abort=True)


def _send(folder: Path, statement: Withdrawal) -> KeptWithdrawal:
    from datetime import UTC, datetime

    from client.connection import connect
    from protocols.service import WITHDRAW

    with connect(folder, lambda: datetime.now(UTC)) as service:
        return service.call(WITHDRAW, statement)
