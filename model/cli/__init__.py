"""`consortium model …`: checkpoints and bases. A file per command; torch is imported by the command that needs it."""

import typer

from model.cli.add_mtp import add_mtp
from model.cli.export import export
from model.cli.generate import generate
from model.cli.info import info
from model.cli.pretrain import pretrain

app = typer.Typer(name="model", no_args_is_help=True, help="Checkpoints, bases and released models.")
app.command("add-mtp")(add_mtp)
for command in (info, generate, export, pretrain):
    app.command()(command)
