"""Device memory that training takes, part by part, from configuration and adapter alone: no weights, no torch.

Activations are those that the backward pass keeps, counted as `model` computes them: LoRA on frozen projections, attention that
saves no scores, tokens spread evenly over experts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass

from model.config import ModelConfig
from model.layout import AdapterTensor

FP32 = 4
_LOGITS_AT_ONCE = 2**25  # `model.loss.LOGITS`
_EMBEDDING = "model.embed_tokens."
_LAYER = re.compile(r"model\.layers\.(\d+)\.")
_ADAPTED = re.compile(r"(.*)\.(\w+)\.lora_A\.weight")
_SAME_INPUT = {"q_proj": "hidden", "q_a_proj": "hidden", "kv_a_proj_with_mqa": "hidden", "gate_proj": "hidden", "up_proj": "hidden"}


@dataclass(frozen=True, slots=True)
class HeldBase:
    """What of a base decides the memory: the bytes that the network holds, those of one activation, elements of the largest FP8 weight."""

    size: int
    activation: int
    largest_fp8: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of each part."""

    base: int  # frozen, in its stored types
    trained: int  # all of the adapter, the frozen factors around cores too: float32, as are gradients and moments
    gradients: int
    moments: int  # AdamW's two
    activations: int  # kept for the backward pass
    in_flight: int  # the backward pass's own, taken to be as large as one block's activations
    logits: int  # one chunk, as the head gives it, and in float32 its softmax and two gradients
    dequantised: int  # the largest FP8 weight while it is multiplied

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


def training_memory(
    config: ModelConfig, base: HeldBase, layout: Sequence[AdapterTensor], batch_size: int, tokens: int, checkpointing: bool
) -> Memory:
    """Memory of a step on `batch_size` rows of `tokens` each. `checkpointing` keeps the inputs of blocks, and all of one block.

    An MTP module counts where the layout adapts it.
    """
    trained = FP32 * sum(math.prod(tensor.shape) for tensor in layout)
    moved = trained - FP32 * sum(math.prod(tensor.shape) for tensor in layout if _is_around_a_core(tensor, _cored(layout)))
    positions = batch_size * tokens
    logits = min(positions * config.vocab_size, _LOGITS_AT_ONCE) * (3 * FP32 + base.activation)
    kept, block = _activations(config, base.activation, layout, positions, checkpointing)
    return Memory(base.size, trained, moved, 2 * moved, kept, block, logits, base.largest_fp8 * (FP32 + base.activation))


def _cored(layout: Iterable[AdapterTensor]) -> set[str]:
    """Modules that have a core."""
    return {tensor.name.removesuffix(".lora_R.weight") for tensor in layout if tensor.kind == "lora_R"}


def _is_around_a_core(tensor: AdapterTensor, cored: Collection[str]) -> bool:
    return tensor.kind in ("lora_A", "lora_B") and tensor.name.removesuffix(f".{tensor.kind}.weight") in cored


def _activations(config: ModelConfig, width: int, layout: Sequence[AdapterTensor], positions: int, checkpointing: bool) -> tuple[int, int]:
    """Bytes of all blocks together, and of the largest."""
    by_layer: dict[int, list[AdapterTensor]] = {layer: [] for layer in range(config.num_hidden_layers)}
    for tensor in layout:
        if inside := _LAYER.match(tensor.name):
            by_layer.setdefault(int(inside[1]), []).append(tensor)
    blocks: list[int] = []
    reached = any(tensor.name.startswith(_EMBEDDING) for tensor in layout)
    for layer, tensors in by_layer.items():
        blocks.append(_block(config, width, layer, tensors, reached) * positions + _casts(config, width, layer, tensors))
        reached = reached or bool(tensors)
    modules = len(by_layer) - config.num_hidden_layers
    ends = (1 + modules) * positions * config.hidden_size * (width + FP32 * reached)  # before the output head, and the norm before it
    ends += (1 + modules) * positions * FP32 * _lookup_rank(layout)
    if not checkpointing:
        return sum(blocks) + ends, max(blocks)
    inputs = config.num_hidden_layers + 2 * modules  # an MTP module has two
    return inputs * positions * config.hidden_size * width + max(blocks) + ends, max(blocks)


def _lookup_rank(layout: Iterable[AdapterTensor]) -> int:
    """Rank of the pair on the embedding, whose rows of B each lookup keeps; 0 without one."""
    return sum(tensor.shape[0] for tensor in layout if tensor.name == f"{_EMBEDDING}lora_A.weight")


def _block(config: ModelConfig, width: int, layer: int, tensors: Sequence[AdapterTensor], reached: bool) -> int:
    """Bytes per token that one block keeps; nothing before the first trained tensor, unless gradients go through (`reached`)."""
    if not (reached or tensors):
        return 0
    norm = FP32 * config.hidden_size
    attends = reached or any(".mlp." not in tensor.name for tensor in tensors)
    attention = norm + _attention(config, width) if attends else 0
    mlp = 3 * width * config.intermediate_size if _is_dense(config, layer) else _mixture(config, width, tensors)
    ahead = 2 * norm if layer >= config.num_hidden_layers else 0
    return attention + norm + mlp + ahead + _adapted_inputs(width, tensors)


def _casts(config: ModelConfig, width: int, layer: int, tensors: Sequence[AdapterTensor]) -> int:
    """Bytes of weights made for one step: those in the activations' type, the router's in float32, experts' with their differences."""
    own = FP32 * sum(math.prod(tensor.shape) for tensor in tensors if tensor.kind == "full" and tensor.expert)
    if width == FP32:
        return own
    router = 0 if _is_dense(config, layer) else FP32 * config.hidden_size * config.n_routed_experts
    return own + router + width * sum(math.prod(tensor.shape) for tensor in tensors if tensor.kind != "full")


def _is_dense(config: ModelConfig, layer: int) -> bool:
    return layer < min(config.first_k_dense_replace, config.num_hidden_layers)


def _attention(config: ModelConfig, width: int) -> int:
    """Query, key, value and output of all heads, padded to one width, the log of the softmax's sum, and inputs of the latent norms."""
    heads, head = config.num_attention_heads, max(config.qk_head_dim, config.v_head_dim)
    return width * 4 * heads * head + FP32 * (heads + config.kv_lora_rank + (config.q_lora_rank or 0))


def _mixture(config: ModelConfig, width: int, tensors: Iterable[AdapterTensor]) -> int:
    """Of each expert that a token goes to: gate, up, silu and the output; the inputs of both products where weights are trained."""
    hidden, inner = config.hidden_size, config.moe_intermediate_size
    low_rank = {tensor.expert for tensor in tensors if tensor.expert and tensor.kind == "lora_A"}
    full = any(tensor.expert and tensor.kind == "full" for tensor in tensors)
    routed = hidden + 3 * inner + (full + len(low_rank) / config.n_routed_experts) * (hidden + inner)
    shared = 3 * config.n_shared_experts * inner
    return FP32 * config.n_routed_experts + math.ceil(width * (config.num_experts_per_tok * routed + shared))


def _adapted_inputs(width: int, tensors: Sequence[AdapterTensor]) -> int:
    """What LoRA outside the routed experts keeps: each projection's input, once where two share it, and the low-rank product.

    A core's gradient needs no input of the projection.
    """
    inputs: dict[str, int] = {}
    ranks, cored = 0, _cored(tensors)
    for tensor in tensors:
        if tensor.kind == "lora_A" and tensor.expert is None and (module := _ADAPTED.fullmatch(tensor.name)):
            if not _is_around_a_core(tensor, cored):
                inputs[f"{module[1]}.{_SAME_INPUT.get(module[2], module[2])}"] = tensor.shape[1]
            ranks += tensor.shape[0]
    norms = sum(tensor.shape[0] for tensor in tensors if len(tensor.shape) == 1)
    return width * (sum(inputs.values()) + ranks + norms)
