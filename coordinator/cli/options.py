"""What the commands share: where the registry is, and whether a program reads the answer."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from coordinator.operator_home import OperatorHome
    from coordinator.registry.registry import Registry

RegistryOption = Annotated[
    str | None,
    typer.Option("--registry", metavar="PATH_OR_URL", help="The registry; registry.db here, unless coordinator.toml says otherwise."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
HomeToRead = Annotated[Path | None, typer.Option("--home", metavar="DIR", help="The operator's folder, in place of --registry.")]
HomeOption = Annotated[Path, typer.Option("--home", metavar="DIR", help="The operator's folder; this one if left out.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or the beginning of it.")]


def at(home: Path) -> str:
    """What a command that is named to the operator needs in order to find the same folder."""
    return "" if home == Path() else f" --home {shlex.quote(str(home))}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where commands that only read find a registry, and what lies beside it."""

    registry: str
    models: Path
    runs: Path


def located(registry: str | None, home: Path | None = None) -> Source:
    """The registry that was named, or that of the operator's folder, or the one of the settings here.

    Raises:
        SettingsError: the folder is no operator's home.
    """
    from coordinator.operator_home import open_operator_home
    from coordinator.settings import load_settings

    if home is not None:
        if registry is not None:
            raise typer.BadParameter("--home and --registry name the same thing; give one of them")
        place = open_operator_home(home)
        return Source(place.registry, place.models, place.runs)
    settings = load_settings()
    named = registry or settings.registry
    return Source(named, settings.models_folder(named), settings.runs_folder(named))


@contextmanager
def opened(source: Source) -> Iterator[Registry]:
    """An existing registry; looking never makes, migrates or writes one."""
    from datetime import UTC, datetime

    from coordinator.registry.registry import Registry

    found = Registry.open(source.registry, lambda: datetime.now(UTC), read_only=True)
    try:
        yield found
    finally:
        found.close()


@contextmanager
def at_home(folder: Path) -> Iterator[tuple[OperatorHome, Registry]]:
    """The operator's folder with its registry, to read and to write."""
    from datetime import UTC, datetime

    from coordinator.operator_home import open_operator_home

    home = open_operator_home(folder)
    registry = home.open_registry(lambda: datetime.now(UTC))
    try:
        yield home, registry
    finally:
        registry.close()
