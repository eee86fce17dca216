"""Hashes of large files, each computed once for as long as its file is not touched: every part of a vector is asked for by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

_Seen = tuple[int, int, int, int]  # inode, size, and times of the last changes of content and inode, in ns


class Digests:
    """Of one process; another one reads every file again."""

    def __init__(self) -> None:
        self._kept: dict[Path, tuple[_Seen, bytes]] = {}

    def of(self, path: Path, compute: Callable[[], bytes]) -> bytes:
        """What `compute` makes of a file's content."""
        status = path.stat()
        seen = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        before, digest = self._kept.get(path, (None, b""))
        if before != seen:
            digest = compute()
            self._kept[path] = seen, digest
        return digest

    def remove(self, path: Path) -> None:
        """Drops a file, if it is there, and what is known of it."""
        path.unlink(missing_ok=True)
        self._kept.pop(path, None)
