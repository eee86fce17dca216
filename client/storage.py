"""What must be on disk before an answer leaves, or is not answered at all."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client.errors import StorageError


def full_disk(error: Exception, home: Path) -> StorageError | None:
    """What an error says where the disk of a node's home is full; None for any other."""
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if is_full or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return StorageError(f"the disk of {home} is full; free space on it, and what was asked can be asked again")
    return None


@contextmanager
def must_be_written(path: Path) -> Iterator[None]:
    """Raises StorageError where a file or row inside cannot be written."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise StorageError(f"{path} cannot be written ({why}); free space on its disk, and what was asked can be asked again") from None
