"""The node of a deployed institution: `python -P -m client.node_process --institution FOLDER`; started by `client run`.

It has records, base, keys and ledger, and talks to the SuperNode on this machine alone.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from client.client_app import folder_node, make_client_app
from client.connection import load_connection
from client.flower_node import serve_tasks
from client.running import runtime_secret
from client.upkeep import Upkeep
from protocols.bundle import installed_bundle
from protocols.errors import ConsortiumError
from protocols.proxies import without_proxy


def serve(folder: Path, ended: list[int]) -> None:
    """Answers messages until a signal is in `ended`.

    Raises:
        ConsortiumError: a file of the folder is missing or damaged.
    """
    runtime = f"127.0.0.1:{load_connection(folder).runtime_port}"
    node, own = folder_node(folder), installed_bundle().sha256
    app = make_client_app(lambda _: node.current())
    upkeep = Upkeep(folder, lambda: datetime.now(UTC), time.monotonic, _say)

    def should_stop() -> bool:
        upkeep.look()
        return bool(ended)

    _say(f"ready; the bundle of this version is {own}")
    serve_tasks(runtime, runtime_secret(folder), app, {own}, should_stop, alive=folder / "flower" / "answered", log=_say)


def _say(line: str) -> None:
    print(f"{datetime.now(UTC).isoformat(timespec='seconds')} {line}", flush=True)


def main(arguments: list[str]) -> int:
    """1 and a sentence where the folder cannot be served."""
    parser = argparse.ArgumentParser(prog="client.node_process")
    parser.add_argument("--institution", type=Path, required=True)
    folder = parser.parse_args(arguments).institution
    os.environ.update(without_proxy(os.environ))
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    try:
        serve(folder, ended)
    except ConsortiumError as error:
        _say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
