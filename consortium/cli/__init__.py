"""The command line: one script, a file per command; what is heavy is imported by the command that needs it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from client.cli import app as client
from consortium.cli.demo import demo
from consortium.cli.new import new
from consortium.cli.plan import plan
from consortium.cli.simulate import simulate
from consortium.cli.submit import submit
from coordinator.cli import app as coordinator
from model.cli import app as model

HELP = "Institutions fine-tune one language model together; only sums of their updates are ever seen."

app = typer.Typer(name="consortium", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=HELP)


def _tell_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"consortium {version('consortium')}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", help="Show the version and exit; both sides must run the same.", callback=_tell_version, is_eager=True)
]


@app.callback()
def _options(version: VersionOption = False) -> None:
    pass


for command in (demo, new, simulate):
    app.command()(command)
coordinator.command()(submit)
app.add_typer(plan, name="plan")
app.add_typer(client, name="client")
app.add_typer(coordinator, name="coordinator")
app.add_typer(model, name="model")


def main() -> None:
    """Runs the command line; an error of ours, or of the file system, is one sentence on standard error and exit code 1."""
    from model.errors import ModelError
    from protocols.errors import ConsortiumError

    try:
        app()
    except (ConsortiumError, ModelError) as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
    except OSError as error:
        place, reason = error.filename or "a file of this command", error.strerror or str(error)
        typer.echo(f"{place}: {reason}; check the path, its rights and the room on its disk", err=True)
        sys.exit(1)
