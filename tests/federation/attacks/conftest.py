"""What every attack starts from."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import pytest

from tests.federation.attacks.scene import Scene

Stage: TypeAlias = Callable[..., Scene]


# Where there is one: no attack here is about a disk that loses what it was given.
MEMORY = Path("/dev/shm")  # noqa: S108 (a directory of its own is made in it)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """An empty directory."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else tmp_path) as path:
        yield Path(path)


@pytest.fixture
def stage(directory: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Stage]:
    """Makes scenes: one for the weakened twin, one for the product."""
    caplog.set_level(logging.DEBUG, "consortium")
    made: list[Scene] = []
    numbers = itertools.count()

    def make(**options: Any) -> Scene:
        made.append(Scene(directory / str(next(numbers)), caplog, **options))
        return made[-1]

    yield make
    for scene in made:
        scene.federation.close()
