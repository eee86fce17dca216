"""A node that stays open while its folder's roster, policy and keys change: what a person accepts there needs no restart."""

from __future__ import annotations

from pathlib import Path

from client.institution import FORMER_KEY, reread
from client.node import Node

WATCHED = ("roster.toml", "policy.toml", "identity.key", FORMER_KEY)
_Stamp = tuple[tuple[int, int, int] | None, ...]


class FolderNode:
    """The node of one folder; its ledger and whatever it keeps warm stay the same."""

    def __init__(self, folder: Path, node: Node) -> None:
        self._folder, self._node = folder, node
        self._seen: _Stamp | None = None  # the files may have changed since the node was opened

    def current(self) -> Node:
        """The node as its files are now, which are read again only when one of them changed.

        Raises:
            ConsortiumError: a file is missing or damaged; it is read again the next time.
        """
        stamp = tuple(_stamp(self._folder / name) for name in WATCHED)
        if stamp != self._seen:
            self._node = reread(self._node, self._folder)
            self._seen = stamp
        return self._node


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes whenever a file is replaced; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
