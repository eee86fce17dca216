"""Hugging Face `DeepseekV3ForCausalLM` directories, read and written, multi-token prediction weights and FP8 included.

Reading goes from the files straight into the network's own memory, tensor by tensor, after every name, type and shape was checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from model.checkpoint.headers import StoredTensor, read_headers
from model.checkpoint.matching import SCALE, check_tensors, stored_config
from model.checkpoint.naming import disk_copies, disk_name, disk_parts, disk_tensors
from model.config import read_config
from model.errors import CheckpointError
from model.fp8 import FP8, FP8Linear, dequantize
from model.moe import Experts
from model.transformer import DeepseekV3

_TYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F8_E4M3": FP8, "F8_E8M0": torch.float8_e8m0fnu}


def load_checkpoint(path: str | Path, dtype: torch.dtype | None = None, device: str | torch.device = "cpu") -> DeepseekV3:
    """Reads a checkpoint directory. Parameters are trainable, but for FP8 ones, which stay frozen.

    dtype None keeps the stored type of every tensor; another one is what FP8 weights are dequantised to as well. The router's bias
    keeps its type. Host memory holds one tensor besides what stays there. The number of MTP modules is that of the tensors present,
    whatever the configuration's flag says.

    Raises:
        CheckpointError, ConfigError: one sentence naming the tensor or field that does not fit, before any weight is loaded.
    """
    net, stored = lay_out(Path(path))
    if dtype is None:
        with torch.device("meta"):
            _hold_fp8(net, stored)
    state = _read(net, stored, dtype, torch.device(device))
    if net.config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    net.load_state_dict(state, assign=True)
    net.tie_weights()
    for parameter in net.parameters():
        parameter.requires_grad_(parameter.dtype != FP8)
    return net


def lay_out(directory: Path) -> tuple[DeepseekV3, dict[str, StoredTensor]]:
    """The network that a checkpoint describes, on the meta device, and the tensors that are stored for it: no weight is read.

    Raises:
        CheckpointError, ConfigError: as `load_checkpoint`, which asks this first.
    """
    config, stored = read_config(directory), read_headers(directory)
    config = stored_config(config, stored)
    with torch.device("meta"):
        net = DeepseekV3(config)
        check_tensors({name: tuple(view.shape) for name, view in disk_tensors(net)}, disk_copies(config), stored)
    return net, stored


def _hold_fp8(net: DeepseekV3, stored: Mapping[str, StoredTensor]) -> None:
    """Gives those projections and experts a place for FP8 weights that are stored as such."""
    layers = net.config.num_hidden_layers
    for path, module in list(net.named_modules()):
        if isinstance(module, Experts):
            names = [disk for name, tensor in module.named_parameters() for disk, _ in disk_parts(f"{path}.{name}", tensor, layers)]
            if any(stored[name].dtype == "F8_E4M3" for name in names):
                _one_type(names, stored)
                module.hold_fp8()
        elif isinstance(module, nn.Linear) and _is_fp8(disk_name(f"{path}.weight", layers), stored):
            parent, _, attribute = path.rpartition(".")
            setattr(net.get_submodule(parent), attribute, FP8Linear(module.in_features, module.out_features, module.bias))


def _is_fp8(name: str, stored: Mapping[str, StoredTensor]) -> bool:
    return name in stored and stored[name].dtype == "F8_E4M3"


def _one_type(names: Sequence[str], stored: Mapping[str, StoredTensor]) -> torch.dtype:
    kept, first = stored[names[0]].dtype, names[0]
    for name in names:
        if stored[name].dtype != kept:
            raise CheckpointError(
                f"Tensor {name} is stored as {stored[name].dtype} and {first} as {kept}, but a layer's experts need one type: load as one"
            )
    return _TYPES[kept]


def _read(net: DeepseekV3, stored: Mapping[str, StoredTensor], dtype: torch.dtype | None, device: torch.device) -> dict[str, Tensor]:
    """The network's state, read in the order in which it lies in the files."""
    state: dict[str, Tensor] = {}
    parts: list[tuple[StoredTensor, Tensor]] = []
    for name, place in net.state_dict().items():
        if name in disk_copies(net.config):
            continue
        names = [disk for disk, _ in disk_parts(name, place, net.config.num_hidden_layers)]
        kept = dtype is None or name.endswith("e_score_correction_bias")
        state[name] = torch.empty(place.shape, dtype=_one_type(names, stored) if kept else dtype, device=device)
        parts += [(stored[disk], view) for disk, view in disk_parts(name, state[name], net.config.num_hidden_layers)]
    for tensor, view in sorted(parts, key=lambda part: (part[0].file, part[0].start)):
        _fill(view, tensor, stored)
    return state


def _fill(view: Tensor, tensor: StoredTensor, stored: Mapping[str, StoredTensor]) -> None:
    """Reads one tensor into its place, without a copy where type and device agree."""
    if view.device.type == "cpu" and view.dtype == _TYPES[tensor.dtype]:
        _read_into(view, tensor)
        return
    values = _buffer(tensor).to(view.device)
    if tensor.dtype == "F8_E4M3" and view.dtype != FP8:
        values = dequantize(values, _buffer(stored[tensor.name + SCALE]).to(view.device), view.dtype)
    view.copy_(values)


def _buffer(tensor: StoredTensor) -> Tensor:
    values = torch.empty(tensor.shape, dtype=_TYPES[tensor.dtype])
    _read_into(values, tensor)
    return values


def _read_into(values: Tensor, tensor: StoredTensor) -> None:
    memory = memoryview(values.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
    with tensor.file.open("rb") as file:
        file.seek(tensor.start)
        if file.readinto(memory) != tensor.size:
            raise CheckpointError(f"{tensor.file} is truncated within {tensor.name}: fetch it again")
