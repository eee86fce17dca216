"""`consortium client …`: an institution's own side. A file per noun; what is heavy is imported by the command."""

import typer

from client.cli.approve import approve
from client.cli.backup import backup, rejoin, restore
from client.cli.check import check
from client.cli.fingerprint import fingerprint
from client.cli.health import health
from client.cli.init import init
from client.cli.ledger import app as ledger
from client.cli.models import app as models
from client.cli.policy import app as policy
from client.cli.rehearse import rehearse
from client.cli.roster import app as roster
from client.cli.run import node, run, supernode
from client.cli.separate import separate
from client.cli.status import status
from client.cli.tune import tune
from client.cli.withdraw import withdraw

HELP = "An institution's side: joining, its roster and terms, taking part, its own ledger, and its own model."

app = typer.Typer(name="client", no_args_is_help=True, pretty_exceptions_enable=False, help=HELP)
for group, name in ((roster, "roster"), (policy, "policy"), (ledger, "ledger"), (models, "models")):
    app.add_typer(group, name=name)
for command in (
    init,
    status,
    fingerprint,
    check,
    rehearse,
    run,
    supernode,
    node,
    separate,
    health,
    approve,
    withdraw,
    tune,
    backup,
    restore,
    rejoin,
):
    app.command()(command)
