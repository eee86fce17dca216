"""`consortium coordinator verify [RUN]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import JsonOption, RegistryOption, located, opened
from coordinator.cli.printing import print_json

RunToVerify = Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's id, or the beginning of it; all runs if left out.")]
ModelsOption = Annotated[Path | None, typer.Option("--models", metavar="DIR", help="Folder of released models; beside the registry.")]
RunsOption = Annotated[Path | None, typer.Option("--runs", metavar="DIR", help="Folder of the runs' transcripts; beside the registry.")]
RosterOption = Annotated[Path | None, typer.Option("--roster", metavar="FILE", help="An institution's roster.toml, for the keys.")]

FullOption = Annotated[bool, typer.Option("--full", help="Count totals again from the masked uploads that are still kept.")]


def verify(
    run: RunToVerify = None,
    registry: RegistryOption = None,
    models: ModelsOption = None,
    runs: RunsOption = None,
    roster: RosterOption = None,
    full: FullOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check the registry, the released files, and what institutions countersigned; says what was proved and what could not be."""
    from coordinator.settings import load_settings
    from coordinator.verify import verify_registry
    from protocols.parties import read_parties

    with opened(registry) as source:
        settings, place = load_settings(), located(registry)
        audit = verify_registry(
            source,
            models or settings.models_folder(place),
            source.run(run).run if run else None,
            runs or settings.runs_folder(place),
            read_parties(roster) if roster else None,
            full,
        )
    if as_json:
        print_json(audit.document())
    else:
        typer.echo("\n".join(audit.lines()))
    if not audit.ok:
        raise typer.Exit(1)
