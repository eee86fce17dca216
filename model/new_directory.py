"""A directory that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.errors import ModelError


@contextmanager
def new_directory(target: Path, error: type[ModelError]) -> Iterator[Path]:
    """A draft beside `target` to write files into; left without an exception, it is on disk and takes the target's name.

    Raises:
        error: the path exists and is not an empty directory, or lies below a file; nothing is written.
    """
    refuse_occupied(target, error)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise error(f"{target} lies below a file: give a new directory") from None
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield draft
        for file in draft.iterdir():
            file.chmod(0o644)
            _sync(file)
        draft.chmod(0o755)
        if target.exists():
            target.rmdir()
        draft.rename(target)
        _sync(target)
        _sync(target.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def refuse_occupied(target: Path, error: type[ModelError]) -> None:
    """Raises `error` if the path exists and is not an empty directory: to be asked before work that takes long."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise error(f"{target} is {'not empty' if target.is_dir() else 'a file'}: give a new directory")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
