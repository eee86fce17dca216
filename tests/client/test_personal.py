"""The files of what an institution keeps to itself, and its choice of experts."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from client.errors import LedgerError
from client.personal import Personal, PersonalFiles
from client.personal_training import choose_private


def a_personal(value: float) -> Personal:
    return Personal({"b": np.full((2, 3), value, np.float32)}, {1: (0, 4)}, {"a": np.full(2, -value, np.float32)})


def test_training_finds_the_newest_of_earlier_rounds_as_it_was_kept(tmp_path: Path) -> None:
    files = PersonalFiles(tmp_path, "r1")
    assert files.newest(9) is None
    for number in (1, 2, 10):
        files.keep(number, a_personal(number))
    found = files.newest(9)
    assert found is not None and found.experts == {1: (0, 4)}
    assert np.array_equal(found.tensors["b"], np.full((2, 3), 2.0)) and np.array_equal(found.controls["a"], [-2.0, -2.0])
    assert PersonalFiles(tmp_path, "r2").newest(9) is None
    assert stat.S_IMODE((tmp_path / "personal" / "r1" / "2.safetensors").stat().st_mode) == 0o600


@pytest.mark.parametrize(("took_part", "left"), [(True, 3.0), (False, 2.0)])
def test_a_finished_round_leaves_one_file_and_none_of_training_that_did_not_count(tmp_path: Path, took_part: bool, left: float) -> None:
    files = PersonalFiles(tmp_path, "r1")
    for number in (1, 2, 3):
        files.keep(number, a_personal(number))
    for _ in range(2):  # a crash before the round's row repeats it
        files.settle(3, took_part)
    found = files.newest(9)
    assert found is not None and found.tensors["b"][0, 0] == left
    assert len(list((tmp_path / "personal" / "r1").iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"not safetensors at all"])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    files = PersonalFiles(tmp_path, "r1")
    files.keep(1, a_personal(1.0))
    (tmp_path / "personal" / "r1" / "1.safetensors").write_bytes(content)
    with pytest.raises(LedgerError, match=r"1\.safetensors: what this institution keeps to itself is damaged"):
        files.newest(1)


def test_private_experts_are_those_of_the_largest_own_affinity_beside_the_common_ones() -> None:
    affinity = {1: np.array([0.4, 0.1, 0.3, 0.2]), 2: np.array([0.25, 0.25, 0.25, 0.25]), 3: np.ones(2)}
    assert choose_private(affinity, {1: (0,), 3: (0, 1)}, 2) == {1: (2, 3), 2: (0, 1)}
