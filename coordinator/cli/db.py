"""`consortium coordinator db`: the registry's schema, and copies of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import HomeToRead, JsonOption, RegistryOption, located
from coordinator.cli.printing import print_json

app = typer.Typer(name="db", no_args_is_help=True, help="The registry's schema, and copies of it.")
RevisionArgument = Annotated[str, typer.Argument(metavar="REVISION", help="A schema such as 0003; `db status` shows the present one.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A new file.")]


@app.command()
def status(registry: RegistryOption = None, home: HomeToRead = None, as_json: JsonOption = False) -> None:
    """Show the registry's schema and the newest that this version knows."""
    from coordinator.registry.maintenance import schema_of

    schema = schema_of(located(registry, home).registry)
    if as_json:
        print_json({"schema_present": schema.present, "schema_newest": schema.newest})
        return
    typer.echo(f"The registry has schema {schema.present or 'none'}; the newest is {schema.newest}.")
    if schema.present != schema.newest:
        typer.echo("Stop the coordinator and run `consortium coordinator db upgrade`.")


@app.command()
def upgrade(registry: RegistryOption = None, home: HomeToRead = None) -> None:
    """Bring the registry's schema up to date."""
    _move(located(registry, home).registry, "head")


@app.command()
def downgrade(revision: RevisionArgument, registry: RegistryOption = None, home: HomeToRead = None) -> None:
    """Bring the registry back to an earlier schema, for an earlier version; what has no place there is dropped."""
    _move(located(registry, home).registry, revision)


@app.command()
def backup(file: FileArgument, registry: RegistryOption = None, home: HomeToRead = None) -> None:
    """Copy a SQLite registry to a new file, also while it is in use; to restore, put the copy in its place."""
    from coordinator.registry.maintenance import back_up

    back_up(located(registry, home).registry, file)
    typer.echo(f"The registry is copied to {file}.")


def _move(registry: str, revision: str) -> None:
    from coordinator.registry.maintenance import move_schema

    typer.echo(f"The registry has schema {move_schema(registry, revision).present}.")
