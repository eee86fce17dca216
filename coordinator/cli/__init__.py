"""`consortium coordinator …`: inviting, running, watching, auditing, and keeping the registry. Commands import what is heavy."""

import typer

from coordinator.cli.control import pause, resume, stop
from coordinator.cli.db import app as db
from coordinator.cli.health import health
from coordinator.cli.init import init
from coordinator.cli.invite import invite
from coordinator.cli.models import app as models
from coordinator.cli.participants import app as participants
from coordinator.cli.rounds import rounds
from coordinator.cli.runs import runs
from coordinator.cli.serve import serve
from coordinator.cli.verify import verify

app = typer.Typer(
    name="coordinator",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The operator's side: institutions, runs, rounds, models, audit.",
)
for command in (init, invite, serve, health, runs, rounds, pause, resume, stop, verify):
    app.command()(command)
for group, name in ((models, "models"), (participants, "participants"), (db, "db")):
    app.add_typer(group, name=name)
