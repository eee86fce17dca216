"""A mark in an institution's folder, outside the node's home, that a ledger was begun: a lost one is not silently begun anew."""

from __future__ import annotations

from pathlib import Path

from client.errors import LedgerError
from protocols.files import write_file

MARK = "ledger.begun"


def check_not_lost(folder: Path, home: Path) -> None:
    """Raises LedgerError where the institution of `folder` had a ledger that is not in `home` any more: it would forget its promises."""
    if (folder / MARK).exists() and not (home / "ledger.db").exists():
        raise LedgerError(
            f"{home} has no ledger, and this institution had one; put it back, or begin another with `consortium client restore BACKUP`, "
            "or `consortium client restore --without-backup`"
        )


def mark_begun(folder: Path) -> None:
    """Called when a ledger is open for the first time, before anything is answered."""
    if not (folder / MARK).exists():
        write_file(folder / MARK, b"This institution's node has a ledger. A new one must begin with `consortium client restore`.\n")
