"""`consortium coordinator models release RUN` and `models withdraw NAME VERSION`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.models.show import NameArgument
from coordinator.cli.options import HomeOption, JsonOption, RunArgument, at_home
from coordinator.cli.printing import print_json

if TYPE_CHECKING:
    from coordinator.registry.records import ModelVersion

OverrideOption = Annotated[
    str, typer.Option("--override", metavar="REASON", help="Release it even if it does not meet the plan's requirements; say why.")
]
VersionToWithdraw = Annotated[int, typer.Argument(metavar="VERSION", help="Its version.", min=1)]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; institutions that ask for the version are told.")]


def release(run: RunArgument, override: OverrideOption = "", home: HomeOption = Path(), as_json: JsonOption = False) -> None:
    """Release the model of a finished run, if it meets what its plan requires of a release.

    What is released by --override says so in its model card, and the event chain keeps the reason.
    """
    from datetime import UTC, datetime

    from coordinator.releasing import release_run

    with at_home(home) as (place, registry):
        version = release_run(place, registry, run, datetime.now(UTC), " ".join(override.split()))
    _told(version, f"Released {version.name} {version.version} at {place.models / version.path}.", as_json)


def withdraw(
    name: NameArgument, version: VersionToWithdraw, reason: ReasonOption, home: HomeOption = Path(), as_json: JsonOption = False
) -> None:
    """Withdraw a released version: institutions get it no more and are told why. Its files stay; copies cannot be called back."""
    from coordinator.errors import RegistryError

    text = " ".join(reason.split())
    if not text:
        raise RegistryError("a version is withdrawn with a reason; say in --reason what is wrong with it")
    with at_home(home) as (_, registry):
        withdrawn = registry.withdraw_model(name, version, text)
    _told(withdrawn, f"Withdrew {name} {version}: {text}", as_json)


def _told(version: ModelVersion, sentence: str, as_json: bool) -> None:
    if as_json:
        print_json({"name": version.name, "version": version.version, "run": version.run, "path": version.path})
    else:
        typer.echo(sentence)
