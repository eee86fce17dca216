"""A network written as a Hugging Face directory, in shards, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from model.checkpoint.headers import INDEX
from model.checkpoint.naming import disk_copies, disk_tensors
from model.errors import CheckpointError
from model.fp8 import FP8, QUANTIZATION
from model.new_directory import new_directory
from model.transformer import DeepseekV3

MAX_SHARD_BYTES = 5 * 10**9


def save_checkpoint(net: DeepseekV3, path: str | Path, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Writes the directory as transformers reads it; it appears whole or not at all.

    Memory holds at most one shard besides the network. A tensor larger than `max_shard_bytes` has a shard of its own.

    Raises:
        CheckpointError: the path exists and is not an empty directory.
    """
    with new_directory(Path(path), CheckpointError) as draft:
        write_checkpoint(net, draft, max_shard_bytes)


def write_checkpoint(net: DeepseekV3, directory: Path, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Writes the files of `save_checkpoint` into a directory that is there; what appears when is the caller's concern."""
    _write_shards(net, directory, max_shard_bytes)
    _write_json(directory / "config.json", _config(net))


def _write_shards(net: DeepseekV3, directory: Path, max_bytes: int) -> None:
    copies, shards = disk_copies(net.config), _shards(net, max_bytes)
    files = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    for file, shard in zip(files if len(shards) > 1 else ["model.safetensors"], shards, strict=True):
        # A copy shares its original's memory, which safetensors refuses within one file.
        own = {name: tensor.clone() if name in copies else tensor.cpu().contiguous() for name, tensor in shard.items()}
        save_file(own, directory / file, metadata={"format": "pt"})
    if len(shards) > 1:
        weight_map = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        total = sum(tensor.nbytes for shard in shards for tensor in shard.values())
        _write_json(directory / INDEX, {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))})


def _shards(net: DeepseekV3, max_bytes: int) -> list[dict[str, Tensor]]:
    """Views into the network, as many to a shard as fit."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in _all_tensors(net):
        if shards[-1] and size + tensor.nbytes > max_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    return shards


def _all_tensors(net: DeepseekV3) -> Iterator[tuple[str, Tensor]]:
    """The network's tensors, and the copies that belong to MTP modules on disk; a tied head is left out."""
    own = dict(disk_tensors(net))
    yield from own.items()
    for copy, original in disk_copies(net.config).items():
        if copy != "lm_head.weight":
            yield copy, own[original]


def _config(net: DeepseekV3) -> dict[str, Any]:
    """config.json, which says that weights are FP8 exactly where some are."""
    content = net.config.to_dict()
    stated = content.pop("quantization_config", None)
    if any(parameter.dtype == FP8 for parameter in net.parameters()):
        content["quantization_config"] = stated or QUANTIZATION
    return dict(sorted(content.items()))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
