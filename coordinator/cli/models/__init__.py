"""`consortium coordinator models …`: released versions listed, shown, released and withdrawn."""

from __future__ import annotations

import typer

from coordinator.cli.models.changes import release, withdraw
from coordinator.cli.models.listing import InstitutionOption, list_models
from coordinator.cli.models.show import show
from coordinator.cli.options import HomeToRead, JsonOption, RegistryOption

app = typer.Typer(invoke_without_command=True, help="Released model versions; without a command, list them.")
app.command("list")(list_models)
app.command()(show)
app.command()(release)
app.command()(withdraw)


@app.callback()
def models(
    context: typer.Context,
    registry: RegistryOption = None,
    home: HomeToRead = None,
    institution: InstitutionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Released model versions; without a command, list them."""
    if context.invoked_subcommand is None:
        list_models(registry, home, institution, as_json)
    elif registry or home or institution or as_json:
        raise typer.BadParameter(f"give options behind the command: models {context.invoked_subcommand} ...")
