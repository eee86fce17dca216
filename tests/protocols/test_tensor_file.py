"""Files of tensors: safetensors' own bytes, read without a copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save, save_file

from protocols.files import write_pieces
from protocols.tensor_file import mapped_tensors, tensor_pieces

TYPES = st.sampled_from([np.float32, np.int64, np.uint8])
SHAPES = arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
ARRAYS = st.dictionaries(st.text(max_size=5).filter(lambda name: name != "__metadata__"), arrays_of.arrays(TYPES, SHAPES), max_size=4)


@given(ARRAYS, st.one_of(st.just({}), st.text(max_size=5).map(lambda text: {"state": text})))
def test_bytes_are_those_of_safetensors(arrays: dict[str, NDArray[Any]], metadata: dict[str, str]) -> None:
    assert b"".join(tensor_pieces(arrays, metadata)) == save(arrays, metadata=metadata or None)


def test_a_map_has_every_bit_and_keeps_what_is_written_into_it_to_itself(tmp_path: Path) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.arange(3),
        "none": np.empty((0, 2), np.float32),
    }
    write_pieces(tmp_path / "file", tensor_pieces(arrays, {"state": "x"}))
    for _ in range(2):
        metadata, found = mapped_tensors(tmp_path / "file")
        assert metadata == {"state": "x"}
        assert all(found[name].dtype == values.dtype and np.array_equal(found[name], values) for name, values in arrays.items())
        found["b"] += 1


def test_other_types_and_other_files_are_refused(tmp_path: Path) -> None:
    save_file({"a": np.zeros(3, np.float64)}, tmp_path / "doubles")
    (tmp_path / "cut").write_bytes(save({"a": np.zeros(3, np.float32)})[:-1])
    for name in ("doubles", "cut"):
        with pytest.raises(SafetensorError):
            mapped_tensors(tmp_path / name)
