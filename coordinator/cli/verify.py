"""`consortium coordinator verify [RUN]`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.options import HomeToRead, JsonOption, RegistryOption, Source, located, opened
from coordinator.cli.printing import print_json

if TYPE_CHECKING:
    from protocols.audit import Audit

RunToVerify = Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's id, or the beginning of it; all runs if left out.")]
ModelsOption = Annotated[Path | None, typer.Option("--models", metavar="DIR", help="Folder of released models; beside the registry.")]
RunsOption = Annotated[Path | None, typer.Option("--runs", metavar="DIR", help="Folder of the runs' transcripts; beside the registry.")]
RosterOption = Annotated[Path | None, typer.Option("--roster", metavar="FILE", help="An institution's roster.toml, for the keys.")]

FullOption = Annotated[bool, typer.Option("--full", help="Count totals again from the masked uploads that are still kept.")]


def verify(
    run: RunToVerify = None,
    registry: RegistryOption = None,
    home: HomeToRead = None,
    models: ModelsOption = None,
    runs: RunsOption = None,
    roster: RosterOption = None,
    full: FullOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check the registry, the released files, and what institutions countersigned; says what was proved and what could not be.

    The exit code is 0 if nothing is wrong, 1 if something is, 2 after wrong use.
    """
    with answered(as_json, code=2):
        audit = _audit(run, located(registry, home), models, runs, roster, full, as_json)
    if as_json:
        print_json(audit.document())
    else:
        typer.echo("\n".join([*audit.lines(), audit.verdict]))
    if not audit.ok:
        raise typer.Exit(1)


@contextmanager
def answered(as_json: bool, code: int) -> Iterator[None]:
    """An error of ours ends the command with this exit code: a sentence on standard error, or a document for programs."""
    from protocols.errors import ConsortiumError

    try:
        yield
    except ConsortiumError as error:
        if as_json:
            print_json({"ok": False, "error": str(error)})
        else:
            typer.echo(str(error), err=True)
        raise typer.Exit(code) from None


def _audit(run: str | None, place: Source, models: Path | None, runs: Path | None, roster: Path | None, full: bool, as_json: bool) -> Audit:
    from coordinator.verify import run_named, verify_registry
    from protocols.parties import read_parties

    for given in (models, runs):
        _check_folder(given)
    with opened(place) as source:
        parties, name = read_parties(roster) if roster else None, run_named(source, run) if run else None
        folders = models or place.models, runs or place.runs
        with answered(as_json, code=1):  # a registry that breaks while it is read
            return verify_registry(source, folders[0], name, folders[1], parties, full)


def _check_folder(given: Path | None) -> None:
    from coordinator.errors import SettingsError

    if given is not None and not given.is_dir():
        raise SettingsError(
            f"{given} is no folder; give the one that the run left, or leave the option out for the one beside the registry"
        )
