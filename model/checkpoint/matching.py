"""Whether the tensors that a checkpoint holds are those that a network needs: decided from headers, before any weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from model.checkpoint.headers import StoredTensor
from model.config import ModelConfig
from model.errors import CheckpointError

SCALE = "_scale_inv"  # what follows an FP8 weight's name in that of its scales
SCALE_BLOCK = 128  # rows and columns that share one scale
_PROJECTIONS = ("_proj.weight", "_proj_with_mqa.weight", "lm_head.weight")


def check_tensors(shapes: Mapping[str, tuple[int, ...]], copies: Mapping[str, str], stored: Mapping[str, StoredTensor]) -> None:
    """Compares a checkpoint with the network's tensors (name -> shape) and with what may repeat them (name -> original).

    Raises:
        CheckpointError: a tensor is missing, too many, misshapen, of a type that does not suit it, or a copy that is none.
    """
    for name, shape in shapes.items():
        if name not in stored:
            raise CheckpointError(f"Tensor {name} is missing from the checkpoint: fetch it again")
        if stored[name].shape != shape:
            raise CheckpointError(
                f"Tensor {name} has shape {list(stored[name].shape)}, but config.json asks for {list(shape)}: "
                f"{stored[name].file} and the config.json beside it do not belong together, fetch both again"
            )
        _check_type(stored[name], stored)
    for name in sorted(stored.keys() - shapes.keys() - copies.keys()):
        _check_surplus(name, shapes, stored)
    for copy in sorted(copies.keys() & stored.keys()):
        _check_copy(stored[copy], stored[copies[copy]])


def stored_config(config: ModelConfig, stored: Mapping[str, StoredTensor]) -> ModelConfig:
    """The configuration with as many multi-token prediction modules as are there.

    Raises:
        CheckpointError: it asks for more layers and experts than there are tensors; a network of it could not even be laid out.
    """
    modules = count_mtp(config, stored)
    mixtures = max(config.num_hidden_layers - config.first_k_dense_replace, 0) + modules
    needed = config.num_hidden_layers + modules + mixtures * config.n_routed_experts
    if needed > len(stored):
        raise CheckpointError(
            f"config.json asks for {config.num_hidden_layers} layers and {config.n_routed_experts} experts, more than the checkpoint's "
            f"{len(stored)} tensors can be: the two do not belong together"
        )
    return replace(config, num_nextn_predict_layers=modules)


def count_mtp(config: ModelConfig, stored: Mapping[str, StoredTensor]) -> int:
    """Multi-token prediction modules that are there; transformers writes the configuration's count and drops their weights."""
    layer = config.num_hidden_layers
    while f"model.layers.{layer}.eh_proj.weight" in stored:
        layer += 1
    return layer - config.num_hidden_layers


def _check_type(tensor: StoredTensor, stored: Mapping[str, StoredTensor]) -> None:
    if not tensor.dtype.startswith("F8"):
        return
    if tensor.dtype != "F8_E4M3" or not tensor.name.endswith(_PROJECTIONS):
        raise CheckpointError(f"Tensor {tensor.name} is stored as {tensor.dtype}: of FP8, only projections are read, and as F8_E4M3")
    scale = stored.get(tensor.name + SCALE)
    if scale is None:
        raise CheckpointError(f"Tensor {tensor.name} is stored as FP8, but its scales {tensor.name}{SCALE} are missing: fetch them too")
    if scale.dtype not in ("F32", "F8_E8M0"):
        raise CheckpointError(f"Tensor {scale.name} is stored as {scale.dtype}, but scales are read as F32 and F8_E8M0 alone")
    needed = [-(-size // SCALE_BLOCK) for size in tensor.shape]
    if list(scale.shape) != needed:
        raise CheckpointError(f"Tensor {scale.name} has shape {list(scale.shape)}, but its weight's blocks of {SCALE_BLOCK} need {needed}")


def _check_surplus(name: str, shapes: Mapping[str, tuple[int, ...]], stored: Mapping[str, StoredTensor]) -> None:
    # transformers writes a shared MLP of no rows where n_shared_experts is 0; its old releases wrote rotary frequencies.
    if not stored[name].elements or name.endswith("rotary_emb.inv_freq"):
        return
    weight = name.removesuffix(SCALE)
    if weight not in shapes or weight == name:
        raise CheckpointError(f"Tensor {name} has no place in the network that config.json describes: the two do not belong together")
    if stored[weight].dtype != "F8_E4M3":
        raise CheckpointError(f"Tensor {name} scales {weight}, which is stored as {stored[weight].dtype} and not as FP8: fetch both again")


def _check_copy(copy: StoredTensor, original: StoredTensor) -> None:
    alike = (copy.dtype, copy.shape) == (original.dtype, original.shape)
    if not alike or any(ours != theirs for ours, theirs in zip(copy.blocks(), original.blocks(), strict=True)):
        raise CheckpointError(f"Tensor {copy.name} differs from {original.name}, of which the network can only hold one: make them equal")
