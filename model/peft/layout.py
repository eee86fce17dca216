"""An adapter in peft's layout for transformers 5: what `PeftModel.from_pretrained` loads with equal logits. No torch, no peft.

transformers 5 stacks routed experts into parameters, and peft adapts a parameter by a `ParamWrapper` (peft/tuners/lora/layer.py).
Targets that end in gate_proj, up_proj or down_proj are rewritten to those parameters (peft/utils/transformers_weight_conversion.py),
so an MLP outside the routed experts is named by its weight in `target_parameters`, which is not rewritten.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig
from model.layout import AdapterConfig, AdapterError, AdapterTensor, Experts, adapter_layout, check_state

PREFIX = "base_model.model."  # stands before every name in the file
LORA_A, LORA_B = ".lora_A.weight", ".lora_B.weight"
EMBEDDING = "model.embed_tokens"
EMBEDDING_A, EMBEDDING_B = ".lora_embedding_A", ".lora_embedding_B"  # B and A of our pair, transposed (peft/tuners/lora/layer.py)
Tensors = Mapping[str, NDArray[np.float32]]
_REWRITTEN = (".gate_proj", ".up_proj", ".down_proj")


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """The content of `adapter_config.json` and of `adapter_model.safetensors`."""

    config: dict[str, Any]
    tensors: dict[str, NDArray[np.float32]]
    left_out: tuple[str, ...] = ()  # tensors of multi-token prediction, which transformers does not build
    shares_head: bool = False  # of the tied head and embedding one is adapted: equal logits, but peft's merge would change both


@dataclass(slots=True)
class _Draft:
    """peft's targets with their ranks, and the tensors that belong to them."""

    modules: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    fused: list[str] = field(default_factory=list)  # the parameters that hold gate and up
    tensors: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def to_peft(config: ModelConfig, adapter: AdapterConfig, experts: Experts, tensors: Tensors) -> PeftAdapter:
    """The adapter as peft stores it: only LoRA factors, never a weight of the base.

    Tensors of multi-token prediction are left out: they take part in speculation, not in the main logits. A layer's experts are
    stacked, those that are not adapted as zeros.

    Raises:
        AdapterError: a tensor is trained in full, or none is left for peft; the text names it and says what to do.
    """
    layout = adapter_layout(config, adapter, experts)
    check_state(layout, tensors)
    main = [tensor for tensor in layout if not _is_mtp(config, tensor.name)]
    _check_expressible(main)
    draft = _Draft()
    for tensor in main:
        if tensor.kind == "lora_A" and tensor.expert is None:
            _add_module(draft, tensor.name.removesuffix(LORA_A), tensors)
    for layer in sorted(layer for layer, chosen in experts.items() if chosen and layer < config.num_hidden_layers):
        _add_experts(draft, config, adapter.expert_rank, layer, experts[layer], tensors)
    left_out = tuple(tensor.name for tensor in layout if _is_mtp(config, tensor.name))
    shares_head = config.tie_word_embeddings and bool({"lm_head", EMBEDDING} & draft.modules.keys())
    return PeftAdapter(_adapter_config(adapter, draft), draft.tensors, left_out, shares_head)


def _is_mtp(config: ModelConfig, name: str) -> bool:
    layer = re.match(r"model\.layers\.(\d+)\.", name)
    return layer is not None and int(layer[1]) >= config.num_hidden_layers


_AVOIDED = 'leave norms out of trainable.targets, and set trainable.embedding_mode to "lora"'
_AVOIDED_EXPERT = 'set trainable.expert_mode to "lora"'


def _check_expressible(main: list[AdapterTensor]) -> None:
    if not main:
        raise AdapterError("The adapter changes multi-token prediction alone, which transformers does not build: nothing is left for peft.")
    for tensor in main:
        if tensor.kind == "full":
            raise AdapterError(
                f"{tensor.name} is trained in full, which peft can hold only as a weight of the base: export the merged model instead, "
                f"or train without it: {_AVOIDED if tensor.expert is None else _AVOIDED_EXPERT}."
            )


def _add_module(draft: _Draft, module: str, tensors: Tensors) -> None:
    rank = tensors[module + LORA_A].shape[0]
    if module.endswith(_REWRITTEN):
        draft.parameters[f"{module}.weight"] = rank
    else:
        draft.modules[module] = rank
    lora_a, lora_b = _pair(module, tensors)
    if module == EMBEDDING:
        transposed = np.ascontiguousarray(lora_b.T), np.ascontiguousarray(lora_a.T)
        draft.tensors |= dict(zip((PREFIX + EMBEDDING + EMBEDDING_A, PREFIX + EMBEDDING + EMBEDDING_B), transposed, strict=True))
    else:
        draft.tensors |= {PREFIX + module + LORA_A: lora_a, PREFIX + module + LORA_B: lora_b}


def _add_experts(draft: _Draft, config: ModelConfig, rank: int, layer: int, chosen: tuple[int, ...], tensors: Tensors) -> None:
    """Adds one layer's pairs; where two parameters of a module are adapted, peft nests the second around the first."""
    module = f"model.layers.{layer}.mlp.experts"
    draft.parameters |= {f"{module}.gate_up_proj": 2 * rank, f"{module}.down_proj": rank}
    draft.fused.append(f"{module}.gate_up_proj")
    pairs = {e: {name[1:]: _pair(f"{module}.{e}{name}", tensors) for name in _REWRITTEN} for e in chosen}
    stacks = {f"{module}.base_layer": _fused_stack(config, rank, pairs), module: _down_stack(config, rank, pairs)}
    for name, (lora_a, lora_b) in stacks.items():
        draft.tensors[PREFIX + name + LORA_A] = lora_a.reshape(-1, lora_a.shape[-1])
        draft.tensors[PREFIX + name + LORA_B] = lora_b.reshape(lora_b.shape[0], -1)


_Pair = tuple[NDArray[np.float32], NDArray[np.float32]]
_Pairs = Mapping[int, Mapping[str, _Pair]]  # expert -> projection -> A and B


def _pair(name: str, tensors: Tensors) -> _Pair:
    """A and B; with a core R, which peft does not have, A and B R, rounded once."""
    lora_a, lora_b, core = tensors[name + LORA_A], tensors[name + LORA_B], tensors.get(f"{name}.lora_R.weight")
    return lora_a, lora_b if core is None else (lora_b.astype(np.float64) @ core.astype(np.float64)).astype(np.float32)


def _fused_stack(config: ModelConfig, rank: int, pairs: _Pairs) -> _Pair:
    """A [E, 2r, H] and B [2I, 2r, E]: gate before up, B block-diagonal, so that the two keep their own pairs."""
    experts, width = config.n_routed_experts, config.moe_intermediate_size
    lora_a = np.zeros((experts, 2 * rank, config.hidden_size), np.float32)
    lora_b = np.zeros((2 * width, 2 * rank, experts), np.float32)
    for expert, pair in pairs.items():
        lora_a[expert, :rank], lora_b[:width, :rank, expert] = pair["gate_proj"]
        lora_a[expert, rank:], lora_b[width:, rank:, expert] = pair["up_proj"]
    return lora_a, lora_b


def _down_stack(config: ModelConfig, rank: int, pairs: _Pairs) -> _Pair:
    """A [E, r, I] and B [H, r, E]."""
    lora_a = np.zeros((config.n_routed_experts, rank, config.moe_intermediate_size), np.float32)
    lora_b = np.zeros((config.hidden_size, rank, config.n_routed_experts), np.float32)
    for expert, pair in pairs.items():
        lora_a[expert], lora_b[:, :, expert] = pair["down_proj"]
    return lora_a, lora_b


def _adapter_config(adapter: AdapterConfig, draft: _Draft) -> dict[str, Any]:
    """peft scales by lora_alpha / rank of each target; the doubled rank of gate and up needs the doubled alpha."""
    ranks = draft.modules | draft.parameters
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": adapter.lora_rank,
        "lora_alpha": adapter.lora_alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": sorted(draft.modules),
        "target_parameters": sorted(draft.parameters),
        "rank_pattern": {name: rank for name, rank in sorted(ranks.items()) if rank != adapter.lora_rank},
        "alpha_pattern": dict.fromkeys(sorted(draft.fused), 2 * adapter.lora_alpha),
    }
