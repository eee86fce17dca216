"""The node of a deployed institution: `python -P -m client.node_process --institution FOLDER`; started by `client run`.

It has records, base, keys and ledger, and talks to the SuperNode on this machine alone.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from client.client_app import folder_node, make_client_app, telling
from client.connection import load_connection
from client.figures import Tally
from client.flower_node import serve_tasks
from client.institution import read_membership
from client.metrics import ANSWERED, TALLY
from client.only_node import only_node
from client.running import runtime_secret
from client.settings import load_settings
from client.upkeep import Upkeep
from model.errors import ModelError
from protocols.bundle import installed_bundle
from protocols.errors import ConsortiumError
from protocols.files import make_folder
from protocols.logs import write_logs
from protocols.proxies import without_proxy

logger = logging.getLogger("consortium.client")


def serve(folder: Path, ended: list[int]) -> None:
    """Answers messages until a signal is in `ended`.

    Raises:
        ConsortiumError: a file of the folder is missing or damaged, or another node answers from its ledger.
    """
    with only_node(Path(load_settings(folder / "institution.toml").storage.home)):
        _serve_alone(folder, ended)


def _serve_alone(folder: Path, ended: list[int]) -> None:
    runtime = f"127.0.0.1:{load_connection(folder).runtime_port}"
    node, own = folder_node(folder), installed_bundle().sha256
    make_folder(folder / "flower")
    app = telling(make_client_app(lambda _: node.current(), Tally(folder / TALLY).note), partial(logger.info, extra={"event": "asked"}))
    upkeep = Upkeep(folder, lambda: datetime.now(UTC), time.monotonic, logger.info)

    def should_stop() -> bool:
        upkeep.look()
        return bool(ended)

    logger.info("ready; the bundle of this version is %s", own, extra={"event": "ready"})
    serve_tasks(runtime, runtime_secret(folder), app, {own}, should_stop, alive=folder / ANSWERED, log=logger.warning)


def main(arguments: list[str]) -> int:
    """1 and a sentence where the folder cannot be served."""
    parser = argparse.ArgumentParser(prog="client.node_process")
    parser.add_argument("--institution", type=Path, required=True)
    folder = parser.parse_args(arguments).institution
    os.environ.update(without_proxy(os.environ))
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    try:
        write_logs("node", sys.stdout, (ConsortiumError, ModelError), institution=read_membership(folder).name)
        serve(folder, ended)
    except (ConsortiumError, ModelError) as error:
        logger.error(str(error), extra={"event": "ended"})
        return 1
    except Exception as error:  # its text may quote a record
        logger.critical("the node failed with %s", error, extra={"event": "ended"})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
