"""One node at a time answers from a ledger: two that ran side by side would each know of half the promises when they decide."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client.errors import LedgerError
from protocols.files import make_folder

LOCK = "answering"


@contextmanager
def only_node(home: Path) -> Iterator[None]:
    """Holds the ledger in `home` for this process, until it leaves or ends in whatever way.

    Raises:
        LedgerError: another node holds it, or a ledger was restored there at the same time.
    """
    make_folder(home, 0o700)
    handle = os.open(home / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        _lock(handle, home)
        if not _is_there(handle, home / LOCK):
            raise LedgerError(f"{home} was made anew while this node started; start it again")
        yield
    finally:
        os.close(handle)


def _is_there(handle: int, path: Path) -> bool:
    """Whether the file that is locked still is the one that others find: a restored ledger brings a folder of its own."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _lock(handle: int, home: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LedgerError(f"another node answers from the ledger in {home}; stop it first") from None
