"""Named arrays as one safetensors file: written tensor by tensor, and read through a map of the file, so that no copy is in memory."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

_CODES = {"int64": "I64", "float32": "F32", "uint8": "U8"}  # in the order in which safetensors writes them
_TYPES = {"I64": "<i8", "F32": "<f4", "U8": "u1"}


def tensor_pieces(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """The bytes of `safetensors.numpy.save`, piece by piece.

    Args:
        arrays: int64, float32 or uint8.
        metadata: one entry at most, as safetensors has no order of them.
    """
    ordered = sorted(arrays, key=lambda name: (list(_CODES).index(arrays[name].dtype.name), name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    place = 0
    for name in ordered:
        values = arrays[name]
        header[name] = {"dtype": _CODES[values.dtype.name], "shape": list(values.shape), "data_offsets": [place, place + values.nbytes]}
        place += values.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in ordered:
        values = np.ascontiguousarray(arrays[name], _TYPES[header[name]["dtype"]])
        if values.size:
            yield values.data.cast("B")


def mapped_tensors(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Metadata and arrays of a file, whose pages are read as they are used. What is written into an array stays in the process.

    Raises:
        OSError, SafetensorError: it cannot be read, or holds something else.
    """
    with safe_open(path, framework="numpy"):  # checks lengths, types and places
        pass
    with path.open("rb") as file:
        return tensors_in(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)))


def tensors_in(content: memoryview) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """The same of a file's content, which `tensor_pieces` made: its places are not checked. The arrays are views of it.

    Raises:
        SafetensorError: it holds tensors of other types.
    """
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(bytes(content[8:start]))
    metadata = header.pop("__metadata__", {})
    if unknown := {field["dtype"] for field in header.values()} - _TYPES.keys():
        raise SafetensorError(f"tensors of type {', '.join(sorted(unknown))}")
    return metadata, {name: _array(content, start, field) for name, field in header.items()}


def _array(content: memoryview, start: int, field: Mapping[str, Any]) -> NDArray[Any]:
    first, end = field["data_offsets"]
    dtype = np.dtype(_TYPES[field["dtype"]])
    if first == end:
        return np.empty(field["shape"], dtype)
    return np.frombuffer(content, dtype, (end - first) // dtype.itemsize, start + first).reshape(field["shape"])
