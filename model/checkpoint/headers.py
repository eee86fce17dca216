"""What a checkpoint's safetensors files hold, read from their headers alone: no weight, and no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import CheckpointError

INDEX = "model.safetensors.index.json"
BYTES = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E8M0": 1}  # the types that are read, in safetensors' spelling
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor: where its bytes lie, and what they mean."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int  # of its bytes in the file
    size: int  # bytes

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def blocks(self) -> Iterator[bytes]:
        """Its bytes, a mebibyte at a time."""
        left = self.size
        with self.file.open("rb") as file:
            file.seek(self.start)
            while left > 0:
                block = file.read(min(left, _BLOCK))
                if not block:
                    raise CheckpointError(f"{self.file} is truncated within {self.name}: fetch it again")
                left -= len(block)
                yield block


def read_headers(directory: Path) -> dict[str, StoredTensor]:
    """Every tensor of a checkpoint directory, by name.

    Raises:
        CheckpointError: a file is missing, truncated or no safetensors file, a type is not read, a tensor is stored twice, or
            the index says otherwise than the files.
    """
    index = _read_index(directory)
    found: dict[str, StoredTensor] = {}
    for file in sorted(set(index.values())) if index is not None else ["model.safetensors"]:
        for tensor in _read_header(directory / file):
            if tensor.name in found:
                raise CheckpointError(f"Tensor {tensor.name} is stored in {found[tensor.name].file.name} and in {file}: fetch both again")
            found[tensor.name] = tensor
    if index is not None:
        _compare(index, found)
    return found


def _read_index(directory: Path) -> Mapping[str, str] | None:
    """Tensor name -> file name, or None for a checkpoint of one file."""
    path = directory / INDEX
    if not path.exists():
        return None
    try:
        entries = {str(name): str(file) for name, file in json.loads(path.read_text(encoding="utf-8"))["weight_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{path} has no weight_map from tensors to files: fetch it again") from None
    outside = next((file for file in entries.values() if Path(file).name != file), None)
    if outside is not None:
        raise CheckpointError(f"{path} names {outside}, which is no file beside it: fetch it again")
    return entries


def _compare(index: Mapping[str, str], found: Mapping[str, StoredTensor]) -> None:
    for name in sorted(index.keys() | found.keys()):
        placed, lies = index.get(name), found[name].file.name if name in found else None
        if placed != lies:
            where = f"in {lies}" if lies else "in none of the files"
            says = f"in {placed}" if placed else "nowhere"
            raise CheckpointError(f"{INDEX} places tensor {name} {says}, but it lies {where}: fetch the checkpoint again")


def _read_header(path: Path) -> Iterator[StoredTensor]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if 0 < length <= size - 8 else None
    except OSError:
        raise CheckpointError(f"{path} is missing: fetch the checkpoint again") from None
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} is truncated or not a safetensors file: fetch it again")
    for name, entry in header.items():
        if name != "__metadata__":
            yield _stored_tensor(path, name, entry, 8 + length, size)


def _stored_tensor(path: Path, name: str, entry: Any, data: int, file_size: int) -> StoredTensor:
    try:
        dtype, shape, (begin, end) = str(entry["dtype"]), tuple(int(size) for size in entry["shape"]), entry["data_offsets"]
        tensor = StoredTensor(name, path, dtype, shape, data + int(begin), int(end) - int(begin))
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path} has no type, shape and offsets for tensor {name}: fetch it again") from None
    if dtype not in BYTES:
        raise CheckpointError(f"Tensor {name} is stored as {dtype}, and only {', '.join(BYTES)} are read: take another checkpoint")
    if min(shape, default=0) < 0 or begin < 0 or tensor.size != tensor.elements * BYTES[dtype]:
        raise CheckpointError(f"{path} gives tensor {name} {tensor.size} bytes, which its type and shape do not need: fetch it again")
    if tensor.start + tensor.size > file_size:
        raise CheckpointError(f"{path} is truncated within {name}: fetch it again")
    return tensor
