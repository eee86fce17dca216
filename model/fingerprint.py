"""The hash of a checkpoint: what is in it, however it is sharded or formatted. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model.config import ModelConfig, read_config
from model.errors import CheckpointError

_BLOCK = 1 << 20
# Fields that came with DeepSeek-V2; a V3 checkpoint keeps the hash that it had before them.
_V3 = {"architecture": "DeepseekV3ForCausalLM", "scoring_func": "sigmoid", "topk_method": "noaux_tc"}


def checkpoint_sha256(directory: Path) -> str:
    """SHA-256 over the architecture and every tensor's name, type, shape and bytes, sorted by name; hexadecimal.

    Raises:
        CheckpointError, ConfigError: a file is missing, truncated or not a safetensors file.
    """
    digest = hashlib.sha256(b"consortium checkpoint v1\0" + _architecture(read_config(directory)))
    entries = sorted((name, path, start, entry) for path in tensor_files(directory) for name, start, entry in _entries(path))
    for name, path, start, entry in entries:
        begin, end = entry["data_offsets"]
        digest.update(json.dumps([name, entry["dtype"], entry["shape"]], separators=(",", ":")).encode())
        for block in _read(path, start + begin, end - begin):
            digest.update(block)
    return digest.hexdigest()


def tensor_files(directory: Path) -> list[Path]:
    """The safetensors files of a checkpoint, by its index where there is one."""
    index = directory / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    for name in names:
        if not (directory / name).is_file():
            raise CheckpointError(f"{directory / name} is missing: fetch the checkpoint again")
    return [directory / name for name in names]


def _architecture(config: ModelConfig) -> bytes:
    content = {name: value for name, value in asdict(config).items() if name != "extra" and (name, value) not in _V3.items()}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _entries(path: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > size - 8:
            raise CheckpointError(f"{path} is truncated or not a safetensors file: fetch it again")
        header = json.loads(file.read(length))
    for name, entry in header.items():
        if name != "__metadata__":
            if 8 + length + entry["data_offsets"][1] > size:
                raise CheckpointError(f"{path} is truncated within {name}: fetch it again")
            yield name, 8 + length, entry


def _read(path: Path, start: int, length: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while length > 0:
            block = file.read(min(length, _BLOCK))
            length -= len(block)
            yield block
