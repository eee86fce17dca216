"""`consortium client init --invite FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.cli.ledger import InstitutionOption, JsonOption, print_json, told
from client.cli.status import document, tell

InviteOption = Annotated[Path, typer.Option("--invite", metavar="FILE", help="The invitation that the operator sent.")]


PortOption = Annotated[
    int, typer.Option("--runtime-port", help="Port on this machine where node and SuperNode meet; another one for each institution.")
]


FormerOption = Annotated[
    Path | None,
    typer.Option("--former", metavar="FOLDER", help="After a revocation: the folder with the former keys, whose ledger and roster move."),
]


def init(
    invite: InviteOption,
    institution: InstitutionOption = None,
    former: FormerOption = None,
    runtime_port: PortOption = 9446,
    as_json: JsonOption = False,
) -> None:
    """Join a consortium: makes keys and commented settings here, and asks the operator. Repeat it after a lost connection."""
    import os
    from datetime import UTC, datetime

    from client.joining import join
    from protocols.invitation import read_invitation

    folder = institution or Path()
    with told(as_json):
        standing = join(folder, read_invitation(invite), lambda: datetime.now(UTC), os.urandom, runtime_port, former)
    if as_json:
        print_json(document(standing))
        return
    typer.echo(f"{folder / 'institution.toml'} and policy.toml describe this institution: say there where its records are.")
    tell(standing, folder)
