"""`consortium coordinator init --host NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import HomeOption, JsonOption, at
from coordinator.cli.printing import print_json

HostOption = Annotated[
    list[str],
    typer.Option("--host", metavar="NAME", help="Public name or address of this machine; the first stands in invitations. Repeatable."),
]
NameOption = Annotated[str, typer.Option("--name", help="What institutions are told the coordinator is called.")]
BaseOption = Annotated[list[str] | None, typer.Option("--base", metavar="NAME=DIR", help="A base that plans may name. Repeatable.")]


FencePort = Annotated[int, typer.Option("--fence-port", help="Public port to which SuperNodes connect.")]
ServicePort = Annotated[int, typer.Option("--service-port", help="Public port of the registry service.")]
SuperLinkPort = Annotated[int, typer.Option("--superlink-port", help="Port of the SuperLink, on this machine alone.")]


def init(
    host: HostOption,
    home: HomeOption = Path(),
    name: NameOption = "coordinator",
    base: BaseOption = None,
    fence_port: FencePort = 9443,
    service_port: ServicePort = 9444,
    superlink_port: SuperLinkPort = 9445,
    as_json: JsonOption = False,
) -> None:
    """Make the operator's folder: identity key, certificate authority, registry and commented settings. Nothing is overwritten."""
    import os
    from datetime import UTC, datetime

    from coordinator.operator_home import make_operator_home
    from coordinator.settings import new_settings

    ports = {"fence_port": fence_port, "service_port": service_port, "superlink_port": superlink_port}
    settings = new_settings(name, host, dict(_bound(text) for text in base or ()), ports)
    made = make_operator_home(home, settings, lambda: datetime.now(UTC), os.urandom)
    if as_json:
        print_json(
            {
                "home": str(home),
                "coordinator_key": made.identity.public_key.hex(),
                "fence": settings.serve.fence,
                "service": settings.serve.service,
            }
        )
        return
    typer.echo(
        f"{home / 'coordinator.toml'} holds the settings; institutions will reach {settings.serve.fence} and {settings.serve.service}."
    )
    typer.echo(f"Keep tls/ca.key and identity.key secret. Next: consortium coordinator invite NAME{at(home)}, for each institution.")


def _bound(text: str) -> tuple[str, str]:
    name, sign, directory = text.partition("=")
    if not (name and sign and directory):
        raise typer.BadParameter(f"{text!r} is not NAME=DIR", param_hint="--base")
    return name, str(Path(directory).resolve())
