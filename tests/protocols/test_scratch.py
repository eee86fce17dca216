"""Large arrays outside of the process's own memory."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from protocols import scratch
from protocols.scratch import Scratch


def own_memory() -> int:
    """Bytes of the process's own memory that are in use."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines["RssAnon"].split()[0])


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_is_large_takes_none_of_the_processs_own_memory_and_leaves_no_name(tmp_path: Path) -> None:
    before, place = own_memory(), Scratch(tmp_path)
    arrays = [place.keep(np.full((1 << 18,), number, np.float32)) for number in range(100)]
    assert all((values == number).all() for number, values in enumerate(arrays))
    assert own_memory() - before < 2 * scratch.OWN, "100 MB"
    assert not list(tmp_path.iterdir())


def test_arrays_share_files_which_go_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "OWN", 0)
    monkeypatch.setattr(scratch, "SEGMENT", 1 << 16)
    before, place = open_files(), Scratch(tmp_path)
    arrays = [place.zeros((3, 5), np.uint8) for _ in range(100)]
    larger = place.zeros(1 << 18, np.uint32)
    assert all(values.ctypes.data % 64 == 0 and values.flags.writeable for values in [*arrays, larger])
    for number, values in enumerate(arrays):
        values[...] = number
    assert [int(values.sum()) for values in arrays] == [15 * number for number in range(100)]
    assert open_files() == before + 2
    del place, arrays, larger, values
    gc.collect()
    assert open_files() == before


def test_small_arrays_and_those_without_a_folder_are_the_processs_own(tmp_path: Path) -> None:
    before, small = open_files(), Scratch(tmp_path).zeros(scratch.OWN, np.uint8)
    values = np.ones(2 * scratch.OWN, np.uint8)
    assert Scratch().keep(values) is values and not Scratch().zeros(2 * scratch.OWN, np.uint8).any() and not small.any()
    assert open_files() == before


def test_a_full_disk_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left|File too large") as caught:
        Scratch(tmp_path).zeros(1 << 62, np.uint8)
    assert caught.value.filename == str(tmp_path)
