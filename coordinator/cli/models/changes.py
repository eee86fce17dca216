"""`consortium coordinator models release RUN` and `models withdraw NAME VERSION`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.models.show import NameArgument
from coordinator.cli.options import JsonOption, RunArgument
from coordinator.cli.printing import print_json

if TYPE_CHECKING:
    from coordinator.registry.records import ModelVersion

HomeOption = Annotated[Path, typer.Option("--home", metavar="DIR", help="The operator's home.")]
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

    from coordinator.operator_home import open_operator_home
    from coordinator.releasing import release_run

    place = open_operator_home(home)
    registry = place.open_registry(_now)
    try:
        version = release_run(place, registry, run, datetime.now(UTC), " ".join(override.split()))
    finally:
        registry.close()
    _told(version, f"Released {version.name} {version.version} at {place.models / version.path}.", as_json)


def withdraw(
    name: NameArgument, version: VersionToWithdraw, reason: ReasonOption, home: HomeOption = Path(), as_json: JsonOption = False
) -> None:
    """Withdraw a released version: institutions get it no more and are told why. Its files stay; copies cannot be called back."""
    from coordinator.errors import RegistryError
    from coordinator.operator_home import open_operator_home

    text = " ".join(reason.split())
    if not text:
        raise RegistryError("a version is withdrawn with a reason; say in --reason what is wrong with it")
    registry = open_operator_home(home).open_registry(_now)
    try:
        withdrawn = registry.withdraw_model(name, version, text)
    finally:
        registry.close()
    _told(withdrawn, f"Withdrew {name} {version}: {text}", as_json)


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)


def _told(version: ModelVersion, sentence: str, as_json: bool) -> None:
    if as_json:
        print_json({"name": version.name, "version": version.version, "run": version.run, "path": version.path})
    else:
        typer.echo(sentence)
