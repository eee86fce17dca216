"""Hugging Face `DeepseekV3ForCausalLM` directories, read and written, multi-token prediction weights included.

On disk each expert has tensors of its own and MTP module k is layer `num_hidden_layers + k`, with copies of embedding and
head; in memory experts are stacked and the copies are the main model's own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.config import ModelConfig, read_config
from model.errors import CheckpointError
from model.fingerprint import tensor_files
from model.transformer import DeepseekV3

_MTP_COPIES = ("embed_tokens.weight", "shared_head.head.weight")


def load_checkpoint(path: str | Path, dtype: torch.dtype | None = None, device: str | torch.device = "cpu") -> DeepseekV3:
    """Reads a checkpoint directory; parameters are trainable. dtype None keeps the stored types.

    The number of MTP modules is that of the tensors present, whatever the configuration's flag says.

    Raises:
        CheckpointError, ConfigError: one sentence naming the tensor or field that does not fit.
    """
    directory = Path(path)
    config = read_config(directory)
    stored = dict(_read_tensors(directory, device))
    config = replace(config, num_nextn_predict_layers=_count_mtp(config, stored))
    with torch.device("meta"):
        net = DeepseekV3(config)
    net.load_state_dict(_to_memory(net, stored, dtype), assign=True)
    net.tie_weights()
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    return net


def save_checkpoint(net: DeepseekV3, path: str | Path) -> None:
    """Writes the directory as transformers reads it; it appears whole or not at all.

    Raises:
        CheckpointError: the path exists and is not an empty directory.
    """
    target = Path(path)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise CheckpointError(f"{target} is {'not empty' if target.is_dir() else 'a file'}: give a new directory")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise CheckpointError(f"{target} lies below a file: give a new directory") from None
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        save_file(dict(disk_tensors(net)), draft / "model.safetensors", metadata={"format": "pt"})
        (draft / "config.json").write_text(json.dumps(net.config.to_dict(), indent=2) + "\n", encoding="utf-8")
        for file in draft.iterdir():
            file.chmod(0o644)
            _sync(file)
        draft.chmod(0o755)
        if target.exists():
            target.rmdir()
        draft.rename(target)
        _sync(target.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def disk_tensors(net: DeepseekV3) -> Iterator[tuple[str, Tensor]]:
    """The network's tensors under their names on disk."""
    tied, layers = net.config.tie_word_embeddings, net.config.num_hidden_layers
    for name, tensor in net.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        disk = _disk_name(name, layers)
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            yield from _unstack(disk, tensor)
        else:
            yield disk, tensor.contiguous()
    for depth in range(len(net.mtp)):
        prefix = f"model.layers.{layers + depth}."
        yield prefix + _MTP_COPIES[0], net.model.embed_tokens.weight.detach().clone()
        yield prefix + _MTP_COPIES[1], net.lm_head.weight.detach().clone()


def _disk_name(name: str, layers: int) -> str:
    part = re.fullmatch(r"mtp\.(\d+)\.(.*)", name)
    return f"model.layers.{layers + int(part[1])}.{part[2]}" if part else name


def _unstack(name: str, stacked: Tensor) -> Iterator[tuple[str, Tensor]]:
    prefix, _, projection = name.rpartition(".")
    for expert, weight in enumerate(stacked):
        if projection == "down_proj":
            yield f"{prefix}.{expert}.down_proj.weight", weight.clone()
        else:
            gate, up = weight.chunk(2)
            yield f"{prefix}.{expert}.gate_proj.weight", gate.clone()
            yield f"{prefix}.{expert}.up_proj.weight", up.clone()


def _read_tensors(directory: Path, device: str | torch.device) -> Iterator[tuple[str, Tensor]]:
    for path in tensor_files(directory):
        try:
            yield from _read_file(path, device)
        except SafetensorError as error:
            raise CheckpointError(f"{path} cannot be read ({error}): fetch it again") from None


def _read_file(path: Path, device: str | torch.device) -> Iterator[tuple[str, Tensor]]:
    with safe_open(path, framework="pt", device=str(device)) as file:
        for name in file.keys():  # noqa: SIM118  (safe_open is no mapping)
            yield name, file.get_tensor(name)


def _count_mtp(config: ModelConfig, stored: dict[str, Tensor]) -> int:
    layer = config.num_hidden_layers
    while f"model.layers.{layer}.eh_proj.weight" in stored:
        layer += 1
    return layer - config.num_hidden_layers


def _to_memory(net: DeepseekV3, stored: dict[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Moves `stored` into the network's state dict, checking every name and shape."""
    layers = net.config.num_hidden_layers
    state: dict[str, Tensor] = {}
    for name, wanted in net.state_dict().items():
        disk = _disk_name(name, layers)
        if name == "lm_head.weight" and net.config.tie_word_embeddings:
            stored.pop(disk, None)
            state[name] = state["model.embed_tokens.weight"]
            continue
        is_expert = name.endswith(("experts.gate_up_proj", "experts.down_proj"))
        tensor = _stack(disk, stored, wanted.shape) if is_expert else _take(disk, stored, wanted.shape)
        state[name] = tensor if dtype is None or name.endswith("e_score_correction_bias") else tensor.to(dtype)
    # transformers writes a shared MLP of no rows where n_shared_experts is 0.
    extra = sorted(name for name, tensor in stored.items() if tensor.numel() and not _is_redundant(name, net.config))
    if extra:
        raise CheckpointError(f"Tensor {extra[0]} has no place in the network that config.json describes: the two do not belong together")
    return state


def _is_redundant(name: str, config: ModelConfig) -> bool:
    mtp = range(config.num_hidden_layers, config.num_hidden_layers + config.num_nextn_predict_layers)
    return name.endswith("rotary_emb.inv_freq") or any(name == f"model.layers.{layer}.{copy}" for layer in mtp for copy in _MTP_COPIES)


def _take(name: str, stored: dict[str, Tensor], shape: torch.Size) -> Tensor:
    if name not in stored:
        raise CheckpointError(f"Tensor {name} is missing from the checkpoint: fetch it again")
    tensor = stored.pop(name)
    if tensor.shape != shape:
        raise CheckpointError(f"Tensor {name} has shape {list(tensor.shape)}, but config.json asks for {list(shape)}")
    if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise CheckpointError(f"Tensor {name} is stored as {tensor.dtype}: only float32, bfloat16 and float16 checkpoints are read")
    return tensor


def _stack(name: str, stored: dict[str, Tensor], shape: torch.Size) -> Tensor:
    """[E, out, in] from the experts' own tensors; gate rows come before up rows."""
    prefix, _, projection = name.rpartition(".")
    parts = ("down_proj",) if projection == "down_proj" else ("gate_proj", "up_proj")
    part_shape = torch.Size((shape[1] // len(parts), shape[2]))
    experts = [[_take(f"{prefix}.{expert}.{part}.weight", stored, part_shape) for part in parts] for expert in range(shape[0])]
    return torch.stack([torch.cat(expert) for expert in experts])


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
