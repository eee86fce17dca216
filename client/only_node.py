"""One node at a time answers from a ledger: two that ran side by side would each know of half the promises when they decide."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from client.errors import LedgerError
from protocols.files import make_folder

LOCK = "answering"
LOOK_SECONDS, ENDING_LOOKS = 0.1, 50
_NODE = "another node answers from the ledger in {home}; stop it first"


@contextmanager
def only_node(home: Path) -> Iterator[None]:
    """Holds the ledger in `home` for this process, until it leaves or ends in whatever way.

    Raises:
        LedgerError: another node holds it, or a ledger was restored there at the same time.
    """
    make_folder(home, 0o700)
    with _locked(node_lock(home), _NODE.format(home=home)) as handle:
        if not _is_there(handle, node_lock(home)):
            raise LedgerError(f"{home} was made anew while this node started; start it again")
        yield


@contextmanager
def only_supernode(folder: Path) -> Iterator[None]:
    """Holds an institution's folder for the one process that keeps its SuperNode.

    Raises:
        LedgerError: another process does.
    """
    make_folder(folder / "flower")
    sentence = f"`consortium client run` or `client supernode` runs for {folder} already; stop it first"
    with _locked(supernode_lock(folder), sentence):
        yield


def node_lock(home: Path) -> Path:
    """What a node holds as long as it answers from the ledger in `home`."""
    return home / LOCK


def supernode_lock(folder: Path) -> Path:
    """What the process that keeps the SuperNode of an institution's folder holds as long as it lives."""
    return folder / "flower" / "running"


def check_no_node(home: Path, sleep: Callable[[float], None]) -> None:
    """Raises LedgerError if a node answers from the ledger in `home`, and does not end within seconds, as that of a killed process does."""
    for _ in range(ENDING_LOOKS):
        if not is_held(node_lock(home)):
            return
        sleep(LOOK_SECONDS)
    raise LedgerError(_NODE.format(home=home))


def is_held(path: Path) -> bool:
    """Whether a living process holds a lock of these; raises PermissionError for another user's."""
    if not path.exists():
        return False
    try:
        with _locked(path, "held"):
            return False
    except LedgerError:
        return True


@contextmanager
def _locked(path: Path, sentence: str) -> Iterator[int]:
    """A file that this process alone holds. Raises LedgerError with the sentence where another one does."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        _lock(handle, sentence)
        yield handle
    finally:
        os.close(handle)


def _lock(handle: int, sentence: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LedgerError(sentence) from None


def _is_there(handle: int, path: Path) -> bool:
    """Whether the file that is locked still is the one that others find: a restored ledger brings a folder of its own."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
