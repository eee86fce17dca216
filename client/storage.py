"""What must be on disk before an answer leaves, or is not answered at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client.errors import StorageError


@contextmanager
def must_be_written(path: Path) -> Iterator[None]:
    """Raises StorageError where a file or row inside cannot be written."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise StorageError(f"{path} cannot be written ({why}); free space on its disk, and what was asked can be asked again") from None
