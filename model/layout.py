"""Names and shapes of everything an adapter trains: the same at every party, computed without weights and without torch."""

import hashlib
import re
import reprlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias

import numpy as np

from model.config import ModelConfig
from model.errors import ModelError

Experts: TypeAlias = Mapping[int, tuple[int, ...]]
Keep: TypeAlias = Callable[[np.ndarray], np.ndarray]  # the same values elsewhere

_REPEATED = re.compile(r"[*+?{]")
_FIELDS = (
    "lora_rank",
    "lora_alpha",
    "targets",
    "rank_pattern",
    "expert_mode",
    "expert_rank",
    "mtp",
    "embedding_mode",
    "core",
    "router_bias",
)


class AdapterError(ModelError):
    """What was asked for does not fit the network; the text says which target, expert or tensor."""


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What is trained; the fields of the plan's ``[trainable]`` table that shape the tensors."""

    lora_rank: int = 8
    lora_alpha: float = 16.0
    targets: tuple[str, ...] = ("attention", "shared_experts", "dense_mlp", "lm_head")
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    expert_mode: Literal["lora", "full"] = "lora"
    expert_rank: int = 8
    mtp: bool | Literal["auto"] = "auto"
    embedding_mode: Literal["full", "lora"] = "full"  # of the target embeddings
    core: bool = False  # LoRA outside routed experts is B R A, and R [r, r] is trained (Fed-SB, arXiv:2502.15436)
    router_bias: Literal["frozen", "summed-counts"] = "frozen"  # the latter: the adapter moves each router's selection bias

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Reads the plan's ``[trainable]`` table; fields that do not shape tensors are ignored."""
        known = {name: fields[name] for name in _FIELDS if name in fields}
        return cls(**known | {"targets": tuple(known.get("targets", cls().targets))})

    def rank_of(self, module: str) -> int:
        """LoRA rank of a module: the first pattern that equals the end of its name (after a dot), as in peft."""
        for pattern, rank in self.rank_pattern.items():
            if matches_end(pattern, module):
                return rank
        return self.lora_rank


@dataclass(frozen=True, slots=True)
class AdapterTensor:
    """One float32 tensor of an adapter. ``full`` and ``router_bias`` tensors are differences to the base, ``lora_R`` is a core: zero first.

    A ``router_bias`` [E] has no gradient; it belongs to no expert.
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["lora_A", "lora_B", "lora_R", "full", "router_bias"]
    expert: tuple[int, int] | None = None  # (layer, expert); None outside routed experts


@dataclass(frozen=True, slots=True)
class _Module:
    name: str
    group: str
    shape: tuple[int, ...]  # of its weight: [out, in] of a Linear, [V, H] of the embedding
    full: bool = False  # trained in full, never by LoRA


def adapter_layout(config: ModelConfig, adapter: AdapterConfig, experts: Experts) -> tuple[AdapterTensor, ...]:
    """All tensors of the adapter, sorted by name.

    ``experts`` maps a layer to the experts adapted in it; a multi-token prediction module k is layer ``num_hidden_layers + k``.
    Raises AdapterError for a target, rank pattern, layer or expert that the network does not have, for experts beside cores, and for router
    biases of a network without them.
    """
    if adapter.core and any(experts.values()):
        raise AdapterError('The plan trains cores (core = true), which routed experts do not have: set trainable.experts to "none".')
    modules = _chosen_modules(config, adapter)
    tensors = [tensor for module in modules for tensor in _module_tensors(module, adapter)]
    if adapter.router_bias == "summed-counts":
        tensors += _router_biases(config, adapter)
    for layer in sorted(experts):
        tensors += _layer_expert_tensors(config, adapter, layer, experts[layer])
    return tuple(sorted(tensors, key=lambda tensor: tensor.name))


def matches_end(pattern: str, name: str) -> bool:
    """Whether a pattern is the end of a dotted name, as peft compares them: a module's name, or a regular expression.

    Raises:
        AdapterError: it is no regular expression, or one that could take for ever: Python's matching tries every way to divide a name.
    """
    if len(pattern) > 256 or pattern.count("(") > 2 or len(_REPEATED.findall(pattern)) > 2 or re.search(r"\)[*+?{]", pattern):
        raise AdapterError(f"Pattern {reprlib.repr(pattern)} is longer or repeats more than a module's name asks for: give a name.")
    try:
        return re.fullmatch(rf"(.*\.)?({pattern})", name) is not None
    except (re.error, OverflowError, RecursionError) as error:
        raise AdapterError(f"Pattern {reprlib.repr(pattern)} is not a regular expression ({error}): give a module's name.") from None


def initial_adapter(layout: tuple[AdapterTensor, ...], seed: int, keep: Keep = np.asarray) -> dict[str, np.ndarray]:
    """The public starting point: A uniform in ±1/sqrt(in) as peft draws it, B and full tensors zero; float32.

    Around a core, which is zero, A is uniform in ±sqrt(3/in) and B in ±sqrt(3/out): rows of A and columns of B have unit norm in the
    mean. Each tensor has a Philox stream of its own, keyed by SHA-256 of seed and name, and uses its raw words: equal on every machine
    and numpy. ``keep`` may move each tensor, as soon as it is drawn, to memory that there is enough of.
    """
    cored = {tensor.name.removesuffix(".lora_R.weight") for tensor in layout if tensor.kind == "lora_R"}
    return {tensor.name: keep(_initial(tensor, seed, cored)) for tensor in layout}


def _initial(tensor: AdapterTensor, seed: int, cored: Collection[str]) -> np.ndarray:
    if tensor.name.removesuffix(".weight").removesuffix(f".{tensor.kind}") in cored and tensor.kind != "lora_R":
        return _uniform(tensor, seed, np.sqrt(3.0 / tensor.shape[-1 if tensor.kind == "lora_A" else 0]))
    if tensor.kind == "lora_A":
        return _uniform(tensor, seed, 1.0 / np.sqrt(tensor.shape[-1]))
    return np.zeros(tensor.shape, np.float32)


def check_state(layout: tuple[AdapterTensor, ...], tensors: Mapping[str, np.ndarray]) -> None:
    """Raises AdapterError unless ``tensors`` has exactly the names and shapes of ``layout``."""
    expected = {t.name: t.shape for t in layout}
    for name in sorted(expected.keys() ^ tensors.keys()):
        fault = "missing" if name in expected else "unknown"
        raise AdapterError(f"Adapter tensor {name} is {fault}: it was made for another plan or base.")
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise AdapterError(f"Adapter tensor {name} has shape {tensors[name].shape}, but this plan and base need {shape}.")


def expert_layers(config: ModelConfig, mtp: bool = True) -> tuple[int, ...]:
    """Layers that hold routed experts; those of multi-token prediction modules come last."""
    last = config.num_hidden_layers + (config.num_nextn_predict_layers if mtp else 0)
    return tuple(range(min(config.first_k_dense_replace, config.num_hidden_layers), last))


def _uniform(tensor: AdapterTensor, seed: int, bound: float) -> np.ndarray:
    key = hashlib.sha256(f"consortium initial adapter\0{seed}\0{tensor.name}".encode()).digest()[:16]
    words = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(int(np.prod(tensor.shape)))
    unit = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53  # [0, 1), 53 bits
    values: np.ndarray = ((2.0 * unit - 1.0) * bound).astype(np.float32)
    return values.reshape(tensor.shape)


def _chosen_modules(config: ModelConfig, adapter: AdapterConfig) -> list[_Module]:
    if adapter.mtp is True and not config.num_nextn_predict_layers:
        raise AdapterError("The plan adapts multi-token prediction (mtp = true), but the base has none: set mtp to auto or false.")
    modules = list(_modules(config, adapter))
    for target in adapter.targets:
        if not any(target in (module.group, module.name) for module in modules):
            raise AdapterError(f'Target "{target}" names nothing in this network: use {_groups(modules)} or an exact module name.')
    chosen = [module for module in modules if {module.group, module.name} & set(adapter.targets)]
    for pattern in adapter.rank_pattern:
        if not any(matches_end(pattern, module.name) and not module.full for module in chosen):
            raise AdapterError(f'Rank pattern "{pattern}" matches no module that the targets adapt by LoRA: correct or remove it.')
    return chosen


def _groups(modules: list[_Module]) -> str:
    return ", ".join(dict.fromkeys(module.group for module in modules))


def _modules(config: ModelConfig, adapter: AdapterConfig) -> Iterator[_Module]:
    hidden, layers = config.hidden_size, config.num_hidden_layers
    yield _Module("model.embed_tokens", "embeddings", (config.vocab_size, hidden), full=adapter.embedding_mode == "full")
    yield _Module("lm_head", "lm_head", (config.vocab_size, hidden))
    yield _Module("model.norm", "norms", (hidden,), full=True)
    for layer in range(layers + (config.num_nextn_predict_layers if adapter.mtp is not False else 0)):
        yield from _block_modules(config, layer)
        if layer >= layers:
            yield _Module(f"model.layers.{layer}.eh_proj", "attention", (hidden, 2 * hidden))
            for norm in ("enorm", "hnorm", "shared_head.norm"):
                yield _Module(f"model.layers.{layer}.{norm}", "norms", (hidden,), full=True)


def _block_modules(config: ModelConfig, layer: int) -> Iterator[_Module]:
    prefix = f"model.layers.{layer}"
    for name, shape in _attention_shapes(config).items():
        yield _Module(f"{prefix}.self_attn.{name}", "attention", shape)
    for norm in ("input_layernorm", "post_attention_layernorm"):
        yield _Module(f"{prefix}.{norm}", "norms", (config.hidden_size,), full=True)
    if layer < config.first_k_dense_replace and layer < config.num_hidden_layers:
        yield from _mlp_modules(f"{prefix}.mlp", "dense_mlp", config.hidden_size, config.intermediate_size)
    elif config.n_shared_experts:
        width = config.n_shared_experts * config.moe_intermediate_size
        yield from _mlp_modules(f"{prefix}.mlp.shared_experts", "shared_experts", config.hidden_size, width)


def _attention_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    hidden, heads = config.hidden_size, config.num_attention_heads
    queries = heads * (config.qk_nope_head_dim + config.qk_rope_head_dim)
    rank = config.q_lora_rank
    query: dict[str, tuple[int, int]] = {"q_a_proj": (rank, hidden), "q_b_proj": (queries, rank)} if rank else {"q_proj": (queries, hidden)}
    return query | {
        "kv_a_proj_with_mqa": (config.kv_lora_rank + config.qk_rope_head_dim, hidden),
        "kv_b_proj": (heads * (config.qk_nope_head_dim + config.v_head_dim), config.kv_lora_rank),
        "o_proj": (hidden, heads * config.v_head_dim),
    }


def _mlp_modules(prefix: str, group: str, hidden: int, width: int) -> Iterator[_Module]:
    for name, shape in _mlp_shapes(hidden, width).items():
        yield _Module(f"{prefix}.{name}", group, shape)


def _mlp_shapes(hidden: int, width: int) -> dict[str, tuple[int, int]]:
    return {"gate_proj": (width, hidden), "up_proj": (width, hidden), "down_proj": (hidden, width)}


def _module_tensors(module: _Module, adapter: AdapterConfig) -> list[AdapterTensor]:
    if module.full:
        return [AdapterTensor(f"{module.name}.weight", module.shape, "full")]
    rank = adapter.rank_of(module.name)
    core = [AdapterTensor(f"{module.name}.lora_R.weight", (rank, rank), "lora_R")] if adapter.core else []
    return _lora_pair(module.name, module.shape, rank, None) + core


def _lora_pair(name: str, shape: tuple[int, ...], rank: int, expert: tuple[int, int] | None) -> list[AdapterTensor]:
    if rank < 1:
        raise AdapterError(f"LoRA rank {rank} of {name} must be at least 1.")
    return [
        AdapterTensor(f"{name}.lora_A.weight", (rank, shape[1]), "lora_A", expert),
        AdapterTensor(f"{name}.lora_B.weight", (shape[0], rank), "lora_B", expert),
    ]


def _router_biases(config: ModelConfig, adapter: AdapterConfig) -> list[AdapterTensor]:
    if config.topk_method != "noaux_tc":
        raise AdapterError(
            'The plan moves the routers\' selection bias (router_bias = "summed-counts"), and the base has none: set trainable.router_bias '
            'to "frozen".'
        )
    layers = expert_layers(config, mtp=adapter.mtp is not False)
    names = [f"model.layers.{layer}.mlp.gate.e_score_correction_bias" for layer in layers]
    return [AdapterTensor(name, (config.n_routed_experts,), "router_bias") for name in names]


def _layer_expert_tensors(config: ModelConfig, adapter: AdapterConfig, layer: int, chosen: tuple[int, ...]) -> list[AdapterTensor]:
    if layer not in expert_layers(config, mtp=adapter.mtp is not False):
        raise AdapterError(f"Layer {layer} has no routed experts that this plan adapts.")
    if len(set(chosen)) != len(chosen) or not all(0 <= expert < config.n_routed_experts for expert in chosen):
        raise AdapterError(f"Experts {list(chosen)} of layer {layer} must be different numbers below {config.n_routed_experts}.")
    return [tensor for expert in chosen for tensor in _expert_tensors(config, adapter, layer, expert)]


def _expert_tensors(config: ModelConfig, adapter: AdapterConfig, layer: int, expert: int) -> list[AdapterTensor]:
    tensors: list[AdapterTensor] = []
    for projection, shape in _mlp_shapes(config.hidden_size, config.moe_intermediate_size).items():
        name = f"model.layers.{layer}.mlp.experts.{expert}.{projection}"
        if adapter.expert_mode == "full":
            tensors.append(AdapterTensor(f"{name}.weight", shape, "full", (layer, expert)))
        else:
            tensors += _lora_pair(name, shape, adapter.expert_rank, (layer, expert))
    return tensors


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What a plan makes of one base: tensors and starting point for any choice of experts. Every party holds an equal one."""

    config: ModelConfig
    adapter: AdapterConfig
    seed: int

    @property
    def expert_counts(self) -> dict[int, int]:
        """Routed experts of each layer that the plan may adapt."""
        return dict.fromkeys(expert_layers(self.config, mtp=self.adapter.mtp is not False), self.config.n_routed_experts)

    @property
    def mtp_modules(self) -> int:
        """Multi-token prediction modules that the plan adapts."""
        return self.config.num_nextn_predict_layers if self.adapter.mtp is not False else 0

    def layout(self, experts: Experts) -> tuple[AdapterTensor, ...]:
        """See `adapter_layout`."""
        return adapter_layout(self.config, self.adapter, experts)

    def initial(self, experts: Experts, keep: Keep = np.asarray) -> dict[str, np.ndarray]:
        """See `initial_adapter`."""
        return initial_adapter(self.layout(experts), self.seed, keep)
