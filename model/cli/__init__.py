"""`consortium model …`: checkpoints and bases. A file per command; torch is imported by the command that needs it."""

import typer

from model.cli.pretrain import pretrain

app = typer.Typer(name="model", no_args_is_help=True, help="Checkpoints and bases.")
app.callback()(lambda: None)  # keeps `pretrain` a subcommand while it is the only one
app.command()(pretrain)
