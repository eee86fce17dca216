"""`consortium coordinator invite NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import HomeOption, JsonOption, at, at_home
from coordinator.cli.printing import print_json

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What the institution is called: lower-case letters, digits, hyphens.")]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="The invitation; NAME.invitation.toml if left out.")]


def invite(name: NameArgument, home: HomeOption = Path(), out: OutOption = None, as_json: JsonOption = False) -> None:
    """Invite an institution: writes a file that lets its holder ask to join, once, within 14 days. Hand it over privately."""
    import os
    from datetime import UTC, datetime

    from coordinator.admission import revoked_participant
    from coordinator.errors import SettingsError
    from coordinator.invitations import invite as invite_institution
    from coordinator.participants import COMING_BACK
    from protocols.fingerprint import fingerprint
    from protocols.invitation import write_invitation
    from protocols.names import check_institution_name

    path = out or Path(f"{check_institution_name(name)}.invitation.toml")
    if path.exists():
        raise SettingsError(f"{path} exists; name another file with --out")

    def clock() -> datetime:
        return datetime.now(UTC)

    with at_home(home) as (found, registry):
        authority = found.authority(clock, os.urandom)
        made = invite_institution(registry, authority, name, found.settings.serve, found.identity.public_key, clock())
        gone = revoked_participant(registry, name)
    write_invitation(path, made)
    own = fingerprint(made.coordinator, bytes.fromhex(made.coordinator_key))
    if as_json:
        print_json(
            {"institution": name, "file": str(path), "expires": made.expires, "coordinator_fingerprint": own, "revoked": gone is not None}
        )
        return
    typer.echo(
        f"{path} invites {name} until {made.expires[:10]}. Send it privately; there, `consortium client init --invite FILE` reads it."
    )
    typer.echo(f"Your own words, for {name} to compare by telephone: {own}")
    if gone is not None:
        typer.echo(
            f"{name} was revoked ({gone.revoked_reason}). It comes back {COMING_BACK}; its words will be new, for you and the others."
        )
    typer.echo(f"When {name} has asked to join: consortium coordinator participants approve {name}{at(home)}")
