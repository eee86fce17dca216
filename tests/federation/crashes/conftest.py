"""Where lives take place."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory in memory where there is such a thing: thousands of commits are waited for."""
    memory = Path("/dev/shm")  # noqa: S108 (a fresh directory in it)
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        yield Path(directory)
