"""Hashes that are computed once for each content of a file."""

from __future__ import annotations

import os
from pathlib import Path

from client.digests import Digests


def test_only_a_file_that_was_touched_is_read_again(tmp_path: Path) -> None:
    digests, path, reads = Digests(), tmp_path / "file", []

    def read() -> bytes:
        reads.append(path.read_bytes())
        return reads[-1]

    path.write_bytes(b"one")
    assert [digests.of(path, read) for _ in range(3)] == [b"one"] * 3 and len(reads) == 1
    with path.open("r+b") as file:
        file.write(b"two")
    os.utime(path, ns=(1, 1))  # whatever the clock's resolution
    assert digests.of(path, read) == b"two"
    digests.remove(path)
    digests.remove(path)
    assert not path.exists()
    path.write_bytes(b"three")
    assert digests.of(path, read) == b"three"
