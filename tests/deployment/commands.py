"""Whether a command line of a unit or a container is one that this version takes."""

from __future__ import annotations

from collections.abc import Sequence

import click
import typer

from consortium.cli import app


def check_command(arguments: Sequence[str]) -> None:
    """Raises click.UsageError if there is no such command, or it does not take these options; nothing is run."""
    command: click.Command = typer.main.get_command(app)
    context = click.Context(command)
    rest = list(arguments)
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None and name is not None
        context, command = click.Context(found, context, name), found
    command.make_context(command.name or "", rest, context.parent)
