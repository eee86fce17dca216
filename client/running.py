"""`consortium client run`: a SuperNode and a node side by side, each started again when it ends, until it is interrupted."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from client.connection import load_connection
from client.errors import SettingsError
from client.flower_node import IDLE_SECONDS, SuperNodeFiles, supernode_command
from client.health import SILENT_SECONDS, age_of
from client.metrics import ChildFigures, NodeFigures
from client.only_node import check_no_node, only_supernode
from client.settings import load_settings
from protocols.child import Child, Program
from protocols.files import write_file
from protocols.flower import environment
from protocols.metrics import serve_metrics

STEP_SECONDS = 0.5
_SECRET_BYTES = 32
SUPERNODE_FILES = ("connection.toml", "ca.pem", "node.key", "runtime.secret")
Say = Callable[[str], None]


def run_both(
    folder: Path, around: Mapping[str, str], should_stop: Callable[[], bool], say: Say, idle: float = IDLE_SECONDS,
    begun: Callable[[], None] = lambda: None,
) -> None:  # fmt: skip
    """Watches SuperNode and node of an institution's folder until `should_stop`; called by a process's main thread.

    Args:
        begun: called once no other process does the same.

    Raises:
        SettingsError: a file of the folder is missing or wrong. LedgerError: another process does the same for the folder.
    """
    home = Path(load_settings(folder / "institution.toml").storage.home)
    with only_supernode(folder):
        check_no_node(home, time.sleep)
        begun()
        _run_both(folder, around, should_stop, say, idle)


def _run_both(folder: Path, around: Mapping[str, str], should_stop: Callable[[], bool], say: Say, idle: float) -> None:
    supernode, node = supernode_child(folder, around, say, idle), node_child(folder, around, say)
    figures = ChildFigures({"supernode": supernode, "node": node}), NodeFigures(folder, lambda: datetime.now(UTC))
    with serve_metrics(load_connection(folder).metrics_port, *figures):
        try:
            while not should_stop():
                tend_supernode(supernode, supernode_files(folder).alive, say)
                node.tend()
                time.sleep(STEP_SECONDS)
        finally:
            node.stop()
            supernode.stop()


def run_supernode(folder: Path, around: Mapping[str, str], should_stop: Callable[[], bool], say: Say, idle: float = IDLE_SECONDS) -> None:
    """Watches the SuperNode alone until `should_stop`; raises as `run_both` does."""
    child = supernode_child(folder, around, say, idle)
    with only_supernode(folder), serve_metrics(load_connection(folder).metrics_port, ChildFigures({"supernode": child})):
        try:
            while not should_stop():
                tend_supernode(child, supernode_files(folder).alive, say)
                time.sleep(STEP_SECONDS)
        finally:
            child.stop()


def supernode_files(folder: Path) -> SuperNodeFiles:
    """What the SuperNode reads: of all the institution's files only these."""
    return SuperNodeFiles(folder / "ca.pem", folder / "node.key", _secret(folder), _flower(folder) / "alive")


def supernode_child(folder: Path, around: Mapping[str, str], say: Say, idle: float = IDLE_SECONDS) -> Child:
    """The SuperNode; it knows its own key and the coordinator's address, and nothing of records or identity."""
    connection, files = load_connection(folder), supernode_files(folder)
    line = tuple(supernode_command(connection.fence, files, connection.runtime_port, idle))
    program = Program("the SuperNode", line, environment(around, _flower(folder)), folder / "logs" / "supernode.log")
    return Child(program, time.monotonic, say)


def node_child(folder: Path, around: Mapping[str, str], say: Say) -> Child:
    """The node, which answers what the SuperNode brings."""
    load_settings(folder / "institution.toml")
    line = (sys.executable, "-P", "-m", "client.node_process", "--institution", str(folder.resolve()))
    return Child(Program("the node", line, around, folder / "logs" / "node.log"), time.monotonic, say)


def tend_supernode(child: Child, alive: Path, say: Say) -> None:
    """Starts it where it does not run, and ends one that hangs."""
    child.tend()
    if child.running and child.age > SILENT_SECONDS and age_of(alive) > SILENT_SECONDS:
        say(f"the SuperNode has done nothing for {SILENT_SECONDS:g} s and is started again")
        child.stop()


def separate_supernode(folder: Path, target: Path) -> None:
    """Copies what the SuperNode of an institution's folder reads, and nothing else, into a folder for another user; again after a change.

    Raises:
        SettingsError: it is the institution's own folder. FileNotFoundError: the institution has not joined yet.
    """
    if target.resolve() == folder.resolve():
        raise SettingsError(f"{target} is the institution's own folder, with its records and keys; name another one for the SuperNode")
    _secret(folder)
    for name in SUPERNODE_FILES:
        write_file(target / name, (folder / name).read_bytes(), 0o600)


def runtime_secret(folder: Path) -> bytes:
    """What SuperNode and node share."""
    return _secret(folder).read_bytes()


def _secret(folder: Path) -> Path:
    path = folder / "runtime.secret"
    if not path.exists():
        write_file(path, secrets.token_hex(_SECRET_BYTES).encode(), 0o600)
    return path


def _flower(folder: Path) -> Path:
    return folder / "flower"
