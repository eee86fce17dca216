"""`consortium client …`: an institution's own side. A file per noun; what is heavy is imported by the command."""

import typer

from client.cli.ledger import app as ledger

app = typer.Typer(name="client", no_args_is_help=True, pretty_exceptions_enable=False, help="An institution's side: its own ledger.")
app.add_typer(ledger, name="ledger")
