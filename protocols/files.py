"""Files that are either the old ones or the new ones, whatever happens in between."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path


def write_file(path: Path, data: bytes | memoryview, mode: int = 0o644) -> None:
    """Writes under a temporary name in the same directory, fsyncs, renames, and fsyncs the directory.

    Raises:
        OSError: with `path` as its file name; what was there before is unchanged.
    """
    write_pieces(path, (data,), mode)


def write_pieces(path: Path, pieces: Iterable[bytes | memoryview], mode: int = 0o644) -> None:
    """`write_file` of what is made while it is written: all of `pieces`, one after the other."""
    make_folder(path.parent)
    try:
        _replace(path, pieces, mode)
    except OSError as error:
        # Its own name would be the temporary one, or none at all where the disk is full.
        raise OSError(error.errno, error.strerror, str(path)) from None
    sync_directory(path.parent)


def write_new_secret(path: Path, data: bytes) -> None:
    """Writes a file that its owner alone may read (mode 0600): whole or not at all, and on disk with its name before this returns.

    Raises:
        FileExistsError: there is one already, which is unchanged.
    """
    make_folder(path.parent)
    draft = path.with_name(f".{path.name}.draft")
    _replace(draft, (data,), 0o600)
    try:
        os.link(draft, path)
    finally:
        draft.unlink()
    sync_directory(path.parent)


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Makes a folder and those above it; each name that is new is on disk before this returns. `mode` is that of the last."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(mode=mode, exist_ok=True)
    sync_directory(path.parent)


def replace_folder(draft: Path, folder: Path) -> None:
    """Puts a complete folder in the place of another one, or of none. A process that dies on the way leaves one of them whole.

    The former one stands beside the place, as `.NAME.former`, until the new one is there.
    """
    former = folder.with_name(f".{folder.name}.former")
    if folder.exists():
        shutil.rmtree(former, ignore_errors=True)
        folder.rename(former)
    draft.rename(folder)
    sync_directory(folder.parent)
    shutil.rmtree(former, ignore_errors=True)


def _replace(path: Path, pieces: Iterable[bytes | memoryview], mode: int) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sync_directory(path: Path) -> None:
    """What was made, renamed or removed in a folder is on disk before this returns."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
