"""`consortium client run` for tests: the same supervisor, whose node rounds by a known seed, so that two runs can have the same bits.

`python -P -m tests.deployment.seeded_client run FOLDER`; no option of the product leads here.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from client import node_process, running
from client.cli.run import FAST_SECONDS
from client.client_app import folder_node
from client.folder_node import FolderNode
from protocols.child import Child

SEED = b"the same in every run of these tests"
MODULE = "tests.deployment.seeded_client"


def run(folder: Path) -> None:
    """SuperNode and seeded node, until a signal."""
    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: ended.append(received))
    node_child = running.node_child

    def seeded(folder: Path, around: Mapping[str, str], say: Callable[[str], None]) -> Child:
        child = node_child(folder, around, say)
        child.program = replace(child.program, command=(sys.executable, "-P", "-m", MODULE, "node", str(folder.resolve())))
        return child

    running.node_child = seeded
    running.run_both(folder, os.environ, lambda: bool(ended), lambda line: print(line, file=sys.stderr, flush=True), FAST_SECONDS)


def node(folder: Path) -> int:
    """The product's node process, with a node that has the seed."""

    def seeded(folder: Path) -> FolderNode:
        return FolderNode(folder, replace(folder_node(folder).current(), rounding_seed=SEED))

    vars(node_process)["folder_node"] = seeded
    return node_process.main(["--institution", str(folder)])


if __name__ == "__main__":
    sys.exit({"run": run, "node": node}[sys.argv[1]](Path(sys.argv[2])))
