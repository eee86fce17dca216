"""`consortium client …`: an institution's own side. A file per noun; what is heavy is imported by the command."""

import typer

from client.cli.init import init
from client.cli.ledger import app as ledger
from client.cli.roster import app as roster
from client.cli.status import status
from client.cli.tune import tune

HELP = "An institution's side: joining, its roster, its own ledger, and its own model."

app = typer.Typer(name="client", no_args_is_help=True, pretty_exceptions_enable=False, help=HELP)
app.add_typer(ledger, name="ledger")
app.add_typer(roster, name="roster")
for command in (init, status, tune):
    app.command()(command)
