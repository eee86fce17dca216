"""What a checkpoint holds, counted from the headers of its files; weights are read for the hash alone. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model.checkpoint.fingerprint import checkpoint_sha256
from model.checkpoint.headers import BYTES, StoredTensor, read_headers
from model.checkpoint.matching import SCALE, count_mtp
from model.config import V2, ModelConfig, read_config
from model.memory import HeldBase

_MTP_COPIES = ("embed_tokens.weight", "shared_head.head.weight")
_LAYER = re.compile(r"model\.layers\.(\d+)\.")
_NORM = "model.layers.0.self_attn.kv_a_layernorm.weight"  # never FP8: its type is that of the activations, as in `DeepseekV3.dtype`


@dataclass(frozen=True, slots=True)
class Inventory:
    """Sizes of a checkpoint; parameters are counted without the multi-token prediction modules, which have a count of their own."""

    architecture: str
    layout: str  # DeepSeek-V2 or DeepSeek-V3
    parameters: int
    active_parameters: int  # what one token passes through: num_experts_per_tok of the routed experts
    mtp_modules: int
    mtp_parameters: int
    stored_bytes: Mapping[str, int]  # by type
    held_bytes: Mapping[str, int]  # in memory, by --dtype
    cache_bytes_per_token: int  # latent and rotary key of every layer, in the type of the activations
    sha256: str | None  # None where it was not asked for: it reads every weight


def count_checkpoint(directory: Path, hashed: bool = True) -> Inventory:
    """Counts a checkpoint directory, and hashes it unless `hashed` is false.

    Raises:
        CheckpointError, ConfigError: it is not a checkpoint of this architecture.
    """
    config, stored = read_config(directory), read_headers(directory)
    total = routed = mtp = 0
    sizes: dict[str, int] = {}
    for name, tensor in stored.items():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.size
        if name.endswith((SCALE, "e_score_correction_bias")):
            continue
        if _is_mtp(name, config):
            mtp += 0 if name.endswith(_MTP_COPIES) else tensor.elements
            continue
        total += tensor.elements
        routed += tensor.elements if ".mlp.experts." in name else 0
    return Inventory(
        architecture=config.architecture,
        layout="DeepSeek-V2" if config.architecture == V2 else "DeepSeek-V3",
        parameters=total,
        active_parameters=total - routed + routed * config.num_experts_per_tok // config.n_routed_experts,
        mtp_modules=count_mtp(config, stored),
        mtp_parameters=mtp,
        stored_bytes=dict(sorted(sizes.items())),
        held_bytes=held_bytes(directory),
        cache_bytes_per_token=(config.kv_lora_rank + config.qk_rope_head_dim) * config.num_hidden_layers * _activation_bytes(stored),
        sha256=checkpoint_sha256(directory) if hashed else None,
    )


def count_held(directory: Path) -> int:
    """Elements that the network holds in memory; MTP modules share the main model's embedding and head."""
    return sum(tensor.elements for tensor in _held(read_config(directory), read_headers(directory)))


def held_base(directory: Path, width: int | None = None) -> HeldBase:
    """What of a checkpoint decides the memory that training on it takes, held in its stored types or in `width` bytes an element."""
    config, stored = read_config(directory), read_headers(directory)
    held = _held(config, stored)
    if width is not None:
        return HeldBase(width * sum(tensor.elements for tensor in held if not tensor.name.endswith(SCALE)), width)
    # An expert's gate and up are multiplied as one weight.
    fp8 = [tensor.elements * (2 if ".mlp.experts." in tensor.name else 1) for tensor in held if tensor.dtype == "F8_E4M3"]
    return HeldBase(sum(tensor.size for tensor in held), _activation_bytes(stored), max(fp8, default=0))


def held_bytes(directory: Path) -> dict[str, int]:
    """Bytes that the network's weights take in memory: in their stored types, in float32 and in bfloat16."""
    widths = {"stored": None, "float32": BYTES["F32"], "bfloat16": BYTES["BF16"]}
    return {name: held_base(directory, width).size for name, width in widths.items()}


def _held(config: ModelConfig, stored: Mapping[str, StoredTensor]) -> list[StoredTensor]:
    return [tensor for name, tensor in stored.items() if not (_is_mtp(name, config) and name.endswith(_MTP_COPIES))]


def _activation_bytes(stored: Mapping[str, StoredTensor]) -> int:
    return BYTES[stored[_NORM].dtype] if _NORM in stored else 2


def _is_mtp(name: str, config: ModelConfig) -> bool:
    layer = _LAYER.match(name)
    return layer is not None and int(layer[1]) >= config.num_hidden_layers
