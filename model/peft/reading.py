"""From peft's layout to the names of `model.layout`: adapters that were exported here, and those that peft made. No torch, no peft."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig
from model.layout import AdapterConfig, AdapterError, Experts, adapter_layout, check_state
from model.peft.layout import EMBEDDING, EMBEDDING_A, EMBEDDING_B, LORA_A, LORA_B, PREFIX
from model.peft.settings import PeftSettings, read_settings

Array = NDArray[np.float32]
_PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class TrainedAdapter:
    """What is adapted, in which experts, and the tensors by the names of `model.layout`."""

    adapter: AdapterConfig
    experts: Experts
    tensors: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class _Pair:
    """scaling * B A: A [r, in], B [out, r]."""

    lora_a: Array
    lora_b: Array
    scaling: float

    @property
    def rank(self) -> int:
        return int(self.lora_a.shape[0])

    @property
    def is_zero(self) -> bool:
        return not (self.lora_a.any() or self.lora_b.any())

    def fitted(self, rank: int, scaling: float) -> tuple[Array, Array]:
        """The same difference with that rank, by zeros, and that scaling, by rounding B once (a power of two is exact)."""
        factor, added = self.scaling / scaling, rank - self.rank
        folded = self.lora_b if math.isclose(factor, 1, rel_tol=1e-12) else self.lora_b.astype(np.float64) * factor
        padded = np.pad(self.lora_a, ((0, added), (0, 0))), np.pad(folded, ((0, 0), (0, added)))
        lora_a, lora_b = (np.ascontiguousarray(factors, np.float32) for factors in padded)
        return lora_a, lora_b


_Pairs = dict[str, _Pair]  # by module
_ExpertPairs = dict[int, dict[int, _Pairs]]  # by layer, expert and projection


def from_peft(config: ModelConfig, adapter_config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> TrainedAdapter:
    """Reads what `to_peft` or peft's `save_pretrained` wrote.

    What `to_peft` wrote comes back bit for bit. Of peft's own adapters, gate and up of a fused pair share A; scalings that differ
    from lora_alpha / rank are folded into B, with one rounding to float32 unless the factor is a power of two. Experts whose
    factors are all zero count as not adapted.

    Raises:
        AdapterError: a field or tensor that does not describe plain LoRA on this network; the text names it.
    """
    settings = read_settings(adapter_config)
    modules, experts = _pairs(config, settings, _factors(tensors))
    adapter = _adapter(settings, modules, experts)
    fitted = {name: pair.fitted(pair.rank, adapter.lora_alpha / pair.rank) for name, pair in modules.items()}
    for layer, expert, projection, pair in _flat(experts):
        name = f"model.layers.{layer}.mlp.experts.{expert}.{projection}"
        fitted[name] = pair.fitted(adapter.expert_rank, adapter.lora_alpha / adapter.expert_rank)
    found = {name + kind: factor for name, pair in fitted.items() for kind, factor in zip((LORA_A, LORA_B), pair, strict=True)}
    chosen = {layer: tuple(sorted(adapted)) for layer, adapted in sorted(experts.items())}
    check_state(adapter_layout(config, adapter, chosen), found)
    return TrainedAdapter(adapter, chosen, dict(sorted(found.items())))


def _factors(tensors: Mapping[str, NDArray[Any]]) -> dict[str, tuple[Array, Array]]:
    """A and B by module; every tensor must be one of the two."""
    tensors = _with_plain_embedding(tensors)
    for name, values in tensors.items():
        if not (name.startswith(PREFIX) and name.endswith((LORA_A, LORA_B))):
            raise AdapterError(f"Tensor {name} is no LoRA factor of a projection: save plain LoRA, with save_embedding_layers=False.")
        if values.ndim != 2 or not values.size:
            raise AdapterError(f"Tensor {name} has shape {list(values.shape)}, and a LoRA factor has two dimensions: save it again.")
    factors = {}
    for module in sorted({name.removesuffix(LORA_A).removesuffix(LORA_B) for name in tensors}):
        if module + LORA_A not in tensors or module + LORA_B not in tensors:
            raise AdapterError(f"Of {module} one LoRA factor is missing: save the adapter again.")
        lora_a, lora_b = (tensors[module + kind].astype(np.float32, copy=False) for kind in (LORA_A, LORA_B))
        if lora_a.shape[0] != lora_b.shape[1]:
            raise AdapterError(f"The LoRA factors of {module} have different ranks: save the adapter again.")
        factors[module.removeprefix(PREFIX)] = lora_a, lora_b
    if not factors:
        raise AdapterError("The adapter holds no tensors: give one that peft has saved.")
    return factors


def _with_plain_embedding(tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    """The tensors with the embedding's factors, where both are there, named and oriented as those of a projection [V, H]."""
    name = PREFIX + EMBEDDING
    if not {name + EMBEDDING_A, name + EMBEDDING_B} <= tensors.keys():
        return tensors
    others = {key: values for key, values in tensors.items() if key not in (name + EMBEDDING_A, name + EMBEDDING_B)}
    return others | {name + LORA_A: tensors[name + EMBEDDING_B].T, name + LORA_B: tensors[name + EMBEDDING_A].T}


def _pairs(config: ModelConfig, settings: PeftSettings, factors: Mapping[str, tuple[Array, Array]]) -> tuple[_Pairs, _ExpertPairs]:
    modules: _Pairs = {}
    experts: _ExpertPairs = defaultdict(lambda: defaultdict(dict))
    for module, (lora_a, lora_b) in factors.items():
        stacked = re.fullmatch(r"model\.layers\.([0-9]{1,9})\.mlp\.experts(\.base_layer)*", module)
        single = re.fullmatch(r"model\.layers\.([0-9]{1,9})\.mlp\.experts\.([0-9]{1,9})\.(gate_proj|up_proj|down_proj)", module)
        if stacked:
            for expert, projection, pair in _unstacked(config, settings, module, lora_a, lora_b):
                _set_once(experts[int(stacked[1])][expert], projection, pair, module)
            continue
        pair = _Pair(lora_a, lora_b, settings.scaling(settings.name_of(module), len(lora_a)))
        if single:
            _set_once(experts[int(single[1])][int(single[2])], single[3], pair, module)
        else:
            modules[module] = pair
    return modules, _adapted(config, experts)


def _set_once(expert: _Pairs, projection: str, pair: _Pair, module: str) -> None:
    if projection in expert:
        raise AdapterError(f"{module} adapts {projection} a second time: save the adapter again.")
    expert[projection] = pair


def _unstacked(config: ModelConfig, settings: PeftSettings, module: str, lora_a: Array, lora_b: Array) -> Iterator[tuple[int, str, _Pair]]:
    """Pairs of single experts from A [E r, in] and B [out, r E], the expert being the first index in A and the last in B."""
    experts, width = config.n_routed_experts, config.moe_intermediate_size
    parameters = {(config.hidden_size, 2 * width): "gate_up_proj", (width, config.hidden_size): "down_proj"}
    parameter = parameters.get((lora_a.shape[1], lora_b.shape[0]))
    if parameter is None or len(lora_a) % experts:
        shapes = f"{list(lora_a.shape)} and {list(lora_b.shape)}"
        raise AdapterError(f"The LoRA factors of {module} have shapes {shapes}, not those of {experts} stacked experts: give its own base.")
    inner, outer = lora_a.reshape(experts, -1, lora_a.shape[1]), lora_b.reshape(len(lora_b), -1, experts).transpose(2, 0, 1)
    rank = inner.shape[1]
    scaling = settings.scaling(f"{re.sub(r'(.base_layer)+$', '', module)}.{parameter}", rank)
    parts = {"down_proj": (inner, outer)} if parameter == "down_proj" else _gate_and_up(inner, outer)
    for projection, (a, b) in parts.items():
        yield from ((expert, projection, _Pair(a[expert], b[expert], scaling)) for expert in range(experts))


def _gate_and_up(inner: Array, outer: Array) -> dict[str, tuple[Array, Array]]:
    """From A [E, r, H] and B [E, 2I, r]: pairs of half the rank where B is block-diagonal, else two that share A."""
    width, half = outer.shape[1] // 2, inner.shape[1] // 2
    gate, up = outer[:, :width], outer[:, width:]
    if inner.shape[1] % 2 or gate[:, :, half:].any() or up[:, :, :half].any():
        return {"gate_proj": (inner, gate), "up_proj": (inner, up)}
    return {"gate_proj": (inner[:, :half], gate[:, :, :half]), "up_proj": (inner[:, half:], up[:, :, half:])}


def _adapted(config: ModelConfig, experts: _ExpertPairs) -> _ExpertPairs:
    """The experts that are not all zero, with zeros for projections that the adapter leaves alone."""
    hidden, width = config.hidden_size, config.moe_intermediate_size
    found: _ExpertPairs = {}
    for layer, pairs in experts.items():
        kept = {expert: own for expert, own in pairs.items() if not all(pair.is_zero for pair in own.values())}
        for own in kept.values():
            for projection in _PROJECTIONS:
                inner, outer = (width, hidden) if projection == "down_proj" else (hidden, width)
                own.setdefault(projection, _Pair(np.zeros((1, inner), np.float32), np.zeros((outer, 1), np.float32), 1.0))
        if kept:
            found[layer] = kept
    return found


def _flat(experts: _ExpertPairs) -> Iterator[tuple[int, int, str, _Pair]]:
    for layer, adapted in experts.items():
        for expert, own in adapted.items():
            yield from ((layer, expert, projection, pair) for projection, pair in own.items())


def _adapter(settings: PeftSettings, modules: _Pairs, experts: _ExpertPairs) -> AdapterConfig:
    """lora_alpha is such that modules of the usual rank and alpha keep their factors."""
    ranks = [pair.rank for *_, pair in _flat(experts)]
    return AdapterConfig(
        lora_rank=settings.r,
        lora_alpha=settings.lora_alpha * (settings.r / settings.divisor(settings.r)),
        targets=tuple(modules),
        rank_pattern={module: pair.rank for module, pair in modules.items() if pair.rank != settings.r},
        expert_rank=max(ranks, default=AdapterConfig().expert_rank),
        mtp=False,
        embedding_mode="lora" if EMBEDDING in modules else "full",
    )
