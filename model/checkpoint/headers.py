"""What a checkpoint's safetensors files hold, read from their headers alone: no weight, and no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from model.errors import CheckpointError

INDEX = "model.safetensors.index.json"
BYTES = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E8M0": 1}  # the types that are read, in safetensors' spelling
_BLOCK = 1 << 20
_LARGEST_HEADER = 100_000_000  # bytes: safetensors' own limit


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
        CheckpointError: a file is missing, truncated or no safetensors file, a type is not read, a tensor is stored twice or in
            another's bytes, or the index says otherwise than the files.
    """
    index = _read_index(directory)
    if index is None:
        _check_single_file(directory)
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
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(f"{path} has no weight_map from tensors to files: fetch it again") from None
    for name, file in entries.items():
        _check_name(path, name)
        if Path(file).name != file or not file.isprintable():
            raise CheckpointError(f"{path} names {ascii(file)[:80]}, which is no file beside it: fetch it again")
    return entries


def _check_single_file(directory: Path) -> None:
    """What stands where neither an index nor model.safetensors does."""
    if (directory / "model.safetensors").exists():
        return
    if any(directory.glob("model-*-of-*.safetensors")):
        raise CheckpointError(f"{directory / INDEX} is missing beside its shards: fetch it too")
    if any(directory.glob("pytorch_model*.bin*")):
        raise CheckpointError(f"{directory} holds pytorch_model.bin, and only safetensors is read: fetch or save the checkpoint as that")


def _compare(index: Mapping[str, str], found: Mapping[str, StoredTensor]) -> None:
    for name in sorted(index.keys() | found.keys()):
        placed, lies = index.get(name), found[name].file.name if name in found else None
        if placed != lies:
            where = f"in {lies}" if lies else "in none of the files"
            says = f"in {placed}" if placed else "nowhere"
            raise CheckpointError(f"{INDEX} places tensor {name} {says}, but it lies {where}: fetch the checkpoint again")


def _check_name(path: Path, name: str) -> None:
    """A name is shown in errors: it must be text, and nothing that a terminal obeys."""
    if not name.isprintable():
        raise CheckpointError(f"{path} names a tensor {ascii(name)[:80]}, which is no text: fetch it again")


def _read_header(path: Path) -> list[StoredTensor]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if 0 < length <= min(size - 8, _LARGEST_HEADER) else None
    except OSError:
        raise CheckpointError(f"{path} is missing: fetch the checkpoint again") from None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} is truncated or not a safetensors file: fetch it again")
    tensors = [_stored_tensor(path, name, entry, 8 + length, size) for name, entry in header.items() if name != "__metadata__"]
    for one, other in pairwise(sorted(tensors, key=lambda tensor: (tensor.start, tensor.size))):
        if one.start + one.size > other.start:
            raise CheckpointError(f"{path} stores {one.name} and {other.name} in the same bytes: fetch it again")
    return tensors


def _stored_tensor(path: Path, name: str, entry: Any, data: int, file_size: int) -> StoredTensor:
    _check_name(path, name)
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        dtype, shape, begin, end = None, (), None, None
    if not (isinstance(dtype, str) and all(type(number) is int and number >= 0 for number in (*shape, begin, end))):
        raise CheckpointError(f"{path} has no type, shape and offsets for tensor {name}: fetch it again")
    tensor = StoredTensor(name, path, dtype, shape, data + begin, end - begin)
    if dtype not in BYTES:
        raise CheckpointError(f"Tensor {name} is stored as {dtype}, and only {', '.join(BYTES)} are read: take another checkpoint")
    if tensor.size != tensor.elements * BYTES[dtype]:
        raise CheckpointError(f"{path} gives tensor {name} {tensor.size} bytes, which its type and shape do not need: fetch it again")
    if tensor.start + tensor.size > file_size:
        raise CheckpointError(f"{path} is truncated within {name}: fetch it again")
    return tensor
