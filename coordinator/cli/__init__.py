"""`consortium coordinator …`: inviting, watching, auditing, and keeping the registry. A file per noun; commands import what is heavy."""

import typer

from coordinator.cli.db import app as db
from coordinator.cli.init import init
from coordinator.cli.invite import invite
from coordinator.cli.models import models
from coordinator.cli.participants import app as participants
from coordinator.cli.rounds import rounds
from coordinator.cli.runs import runs
from coordinator.cli.verify import verify

app = typer.Typer(
    name="coordinator",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The operator's side: institutions, runs, rounds, models, audit.",
)
for command in (init, invite, runs, rounds, models, verify):
    app.command()(command)
app.add_typer(participants, name="participants")
app.add_typer(db)
