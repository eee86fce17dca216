"""Large arrays in files without a name: the system may write that memory to the disk, as it may not with a process's own."""

from __future__ import annotations

import mmap
import os
import tempfile
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

OWN = 1 << 23  # bytes: a computation of small arrays makes no file
SEGMENT = 1 << 26  # bytes: many arrays share a file, as a process may have few open
_ALIGNED = 64

A = TypeVar("A", bound=NDArray[Any])


class Scratch:
    """The arrays of one computation: the first OWN bytes in the process's memory, all others in files that vanish with the arrays."""

    def __init__(self, folder: Path | None = None) -> None:
        """Makes nothing yet.

        Args:
            folder: on the disk where room is; None: everything is the process's own.
        """
        self._folder = folder
        self._own = OWN
        self._segment = memoryview(b"")
        self._used = 0

    def zeros(self, shape: int | tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        """A new array.

        Raises:
            OSError: the disk has no room for it; with the folder as its file name.
        """
        size = shape if isinstance(shape, int) else prod(shape)
        needed = size * np.dtype(dtype).itemsize
        if self._folder is None or needed <= self._own:
            self._own -= needed
            return np.zeros(shape, dtype)
        return np.frombuffer(self._take(self._folder, needed), dtype, size).reshape(shape)

    def keep(self, values: A) -> A:
        """The same values here, so that `values` can be let go of."""
        if self._folder is None:
            return values
        kept: A = self.zeros(values.shape, values.dtype.type)  # type: ignore[assignment]
        kept[...] = values
        return kept

    def _take(self, folder: Path, needed: int) -> memoryview:
        if self._used + needed > len(self._segment):
            self._segment, self._used = memoryview(_segment(folder, max(needed, SEGMENT))), 0
        start = self._used
        self._used = -(-(start + needed) // _ALIGNED) * _ALIGNED
        return self._segment[start : start + needed]


def _segment(folder: Path, size: int) -> mmap.mmap:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and would kill the process at the first use
                os.posix_fallocate(file.fileno(), 0, size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:  # which names no file
        raise OSError(error.errno, error.strerror, str(folder)) from None
