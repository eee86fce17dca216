"""`consortium model …`: checkpoints and bases. A file per command; torch is imported by the command that needs it."""

import typer

from model.cli.chat import chat
from model.cli.export import export
from model.cli.generate import generate
from model.cli.import_ import import_
from model.cli.info import info
from model.cli.pretrain import pretrain

app = typer.Typer(name="model", no_args_is_help=True, help="Checkpoints, bases and released models.")
for command in (info, generate, chat, export, pretrain):
    app.command()(command)
app.command(name="import")(import_)
