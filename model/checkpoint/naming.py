"""Names on disk and in memory: on disk each expert has tensors of its own, and MTP module k is layer `num_hidden_layers + k`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import Tensor

from model.config import ModelConfig
from model.transformer import DeepseekV3

_STACKED = re.compile(r"(.*\.mlp\.experts)\.(gate_up|down)_(proj|scale_inv)")
_ENDINGS = {"proj": "proj.weight", "scale_inv": "proj.weight_scale_inv"}


def disk_name(name: str, layers: int) -> str:
    """The name on disk of a tensor or module outside the routed experts; `layers` is num_hidden_layers."""
    part = re.fullmatch(r"mtp\.(\d+)\.(.*)", name)
    return f"model.layers.{layers + int(part[1])}.{part[2]}" if part else name


def disk_parts(name: str, tensor: Tensor, layers: int) -> Iterator[tuple[str, Tensor]]:
    """What a tensor in memory is on disk: names, and views into it. Of stacked experts [E, ., .], gate rows come before up rows."""
    stacked = _STACKED.fullmatch(disk_name(name, layers))
    if stacked is None:
        yield disk_name(name, layers), tensor
        return
    prefix, projections, ending = stacked[1], stacked[2].split("_"), _ENDINGS[stacked[3]]
    for expert, weights in enumerate(tensor):
        for projection, weight in zip(projections, weights.chunk(len(projections)), strict=True):
            yield f"{prefix}.{expert}.{projection}_{ending}", weight


def disk_copies(config: ModelConfig) -> dict[str, str]:
    """Tensors that a checkpoint may hold although they are others' copies: name -> the tensor that is meant."""
    embedding = "model.embed_tokens.weight"
    head = embedding if config.tie_word_embeddings else "lm_head.weight"
    copies = {"lm_head.weight": embedding} if config.tie_word_embeddings else {}
    for depth in range(config.num_nextn_predict_layers):
        prefix = f"model.layers.{config.num_hidden_layers + depth}."
        copies |= {prefix + "embed_tokens.weight": embedding, prefix + "shared_head.head.weight": head}
    return copies


def disk_tensors(net: DeepseekV3) -> Iterator[tuple[str, Tensor]]:
    """The network's tensors under their names on disk, as views into its memory; those of `disk_copies` are left out."""
    for name, tensor in net.state_dict().items():
        if name not in disk_copies(net.config):
            yield from disk_parts(name, tensor, net.config.num_hidden_layers)
