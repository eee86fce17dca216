"""Checkpoints written straight to disk, without a network in memory: of any size, of any type, whole or damaged."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.checkpoint.naming import disk_tensors
from model.config import ModelConfig
from model.fp8 import QUANTIZATION, quantize
from model.transformer import DeepseekV3


def write_repeated(directory: Path, config: ModelConfig, shards: int) -> None:
    """A bfloat16 checkpoint in which one random block is repeated; memory holds one shard at a time."""
    with torch.device("meta"):
        shapes = {name: view.shape for name, view in disk_tensors(DeepseekV3(config))}
    block = torch.randn(1 << 20).to(torch.bfloat16)
    names = list(shapes)
    parts = [names[len(names) * shard // shards : len(names) * (shard + 1) // shards] for shard in range(shards)]

    def filled(shape: torch.Size) -> Tensor:
        return block.repeat(-(-shape.numel() // len(block)))[: shape.numel()].view(shape)

    directory.mkdir()
    write_shards(directory, [part for part in parts if part], lambda name: filled(shapes[name]))
    (directory / "config.json").write_text(json.dumps(config.to_dict()))


def write_shards(directory: Path, parts: list[list[str]], tensor: Callable[[str], Tensor]) -> None:
    """One file for each list of names, and the index."""
    files = [f"model-{number:05d}-of-{len(parts):05d}.safetensors" for number in range(1, len(parts) + 1)]
    for file, part in zip(files, parts, strict=True):
        save_file({name: tensor(name) for name in part}, directory / file)
    weight_map = {name: file for file, part in zip(files, parts, strict=True) for name in part}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def edit_tensors(directory: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    """Changes the tensors of a checkpoint of one file."""
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


def edit_config(directory: Path, fields: Mapping[str, Any]) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(fields)))


def to_fp8(directory: Path, names: Callable[[str], bool], *, power_of_two: bool = False, as_e8m0: bool = False) -> None:
    """Quantises the named weights of a checkpoint of one file, as DeepSeek-V3's are, or with V3.1's scales."""

    def change(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if names(name)]:
            tensors[name], scale_inv = quantize(tensors[name], power_of_two)
            tensors[name + "_scale_inv"] = scale_inv.to(torch.float8_e8m0fnu) if as_e8m0 else scale_inv

    edit_tensors(directory, change)
    edit_config(directory, {"quantization_config": QUANTIZATION | ({"scale_fmt": "ue8m0"} if power_of_two else {})})
