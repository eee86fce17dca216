"""`consortium client run`, and its two halves for separate users or containers: `client supernode` and `client node`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.cli.ledger import InstitutionOption

if TYPE_CHECKING:
    import logging

FastOption = Annotated[bool, typer.Option("--fast-poll", help="Look for messages four times a second rather than every 3 s.")]
FAST_SECONDS = 0.25
WARNING = (
    "SuperNode and node run as one user here, so a fault in the SuperNode reaches records and keys: this is for trying out. "
    "In production run `consortium client supernode` and `consortium client node` as two users or containers"
)


def run(institution: InstitutionOption = None, fast_poll: FastOption = False) -> None:
    """Take part: run this institution's SuperNode and node until interrupted. Nothing listens but a port on this machine."""
    import os

    from client.connection import load_connection
    from client.flower_node import IDLE_SECONDS
    from client.running import run_both

    folder, log = institution or Path(), _log("client")
    fence = load_connection(folder).fence

    def begun() -> None:
        log.warning(WARNING)
        log.info("taking part through %s; what SuperNode and node say is in %s", fence, folder / "logs")

    run_both(folder, os.environ, _interrupted(), log.warning, FAST_SECONDS if fast_poll else IDLE_SECONDS, begun)


def supernode(institution: InstitutionOption = None, fast_poll: FastOption = False) -> None:
    """Run the SuperNode alone, as a user that can read neither records nor keys of the node."""
    import os

    from client.flower_node import IDLE_SECONDS
    from client.running import run_supernode

    log = _log("supernode")
    run_supernode(institution or Path(), os.environ, _interrupted(), log.warning, FAST_SECONDS if fast_poll else IDLE_SECONDS)


def node(institution: InstitutionOption = None) -> None:
    """Run the node alone: it answers what a SuperNode on this machine brings, and needs no route out but the registry service."""
    from datetime import UTC, datetime

    from client.connection import load_connection
    from client.metrics import NodeFigures
    from client.node_process import main
    from protocols.metrics import serve_metrics

    folder = (institution or Path()).resolve()
    with serve_metrics(load_connection(folder).metrics_port, NodeFigures(folder, lambda: datetime.now(UTC))):
        code = main(["--institution", str(folder)])
    raise typer.Exit(code)


def _interrupted() -> Callable[[], bool]:
    """Whether somebody asked this process to end."""
    import signal

    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: ended.append(received))
    return lambda: bool(ended)


def _log(component: str) -> logging.Logger:
    """What this process itself says, on standard error."""
    import sys

    from protocols.logs import write_logs

    return write_logs(component, sys.stderr)
