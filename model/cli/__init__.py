"""`consortium model …`: checkpoints and bases. A file per command; torch is imported by the command that needs it."""

import typer

from model.cli.add_mtp import add_mtp
from model.cli.chat import chat
from model.cli.export import export
from model.cli.generate import generate
from model.cli.import_ import import_
from model.cli.info import info
from model.cli.pretrain import pretrain

app = typer.Typer(name="model", no_args_is_help=True, help="Checkpoints, bases and released models.")
app.command()(info)
app.command()(generate)
app.command()(chat)
app.command()(export)
app.command("import")(import_)
app.command()(pretrain)
app.command("add-mtp")(add_mtp)
