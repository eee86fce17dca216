"""What a checkpoint holds, counted from the headers of its files: no weight is read, and no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model.config import ModelConfig, read_config
from model.fingerprint import checkpoint_sha256
from model.headers import read_headers

_MTP_COPIES = ("embed_tokens.weight", "shared_head.head.weight")
_LAYER = re.compile(r"model\.layers\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Inventory:
    """Sizes of a checkpoint; parameters are counted without the multi-token prediction modules, which have a count of their own."""

    parameters: int
    active_parameters: int  # what one token passes through: num_experts_per_tok of the routed experts
    mtp_parameters: int
    cache_bytes_per_token: int  # latent and rotary key of every layer, in the stored type (16 bits where that is FP8)
    sha256: str


def count_checkpoint(directory: Path) -> Inventory:
    """Counts a checkpoint directory.

    Raises:
        CheckpointError, ConfigError: it is not a checkpoint of this architecture.
    """
    config, sha256 = read_config(directory), checkpoint_sha256(directory)
    total = routed = mtp = 0
    width = 2
    for name, dtype, size in _tensors(directory):
        if name == "model.embed_tokens.weight":
            width = 4 if dtype == "F32" else 2
        if name.endswith(("_scale_inv", "e_score_correction_bias")):
            continue
        if _is_mtp(name, config):
            mtp += 0 if name.endswith(_MTP_COPIES) else size
            continue
        total += size
        routed += size if ".mlp.experts." in name else 0
    active = total - routed + routed * config.num_experts_per_tok // config.n_routed_experts
    per_layer = config.kv_lora_rank + config.qk_rope_head_dim
    return Inventory(total, active, mtp, per_layer * config.num_hidden_layers * width, sha256)


def count_held(directory: Path) -> int:
    """Elements that the network holds in memory; MTP modules share the main model's embedding and head."""
    config = read_config(directory)
    return sum(size for name, _, size in _tensors(directory) if not (_is_mtp(name, config) and name.endswith(_MTP_COPIES)))


def _tensors(directory: Path) -> Iterator[tuple[str, str, int]]:
    for name, tensor in read_headers(directory).items():
        yield name, tensor.dtype, tensor.elements


def _is_mtp(name: str, config: ModelConfig) -> bool:
    layer = _LAYER.match(name)
    return layer is not None and int(layer[1]) >= config.num_hidden_layers
