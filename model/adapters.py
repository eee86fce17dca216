"""Adapters on a network: attach, fill, read, merge, detach. Names and shapes are those of `model.layout`.

Everything trained is float32, whatever the base is held in. What is trained in full outside the experts is the base's own parameter,
widened; its difference to the base is what counts as the adapter's tensor.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model.adapter_places import Beside, Factor, Place, SelectionBias, Widened
from model.expert_adapters import FullDifference, FullExperts, LoRAExperts
from model.fp8 import FP8
from model.layers import Linear, Projection
from model.layout import AdapterConfig, AdapterError, AdapterTensor, Experts, adapter_layout, check_state
from model.lora import FactorName, LoRAEmbedding, LoRALinear, LoRAPair
from model.moe import ExpertProjection, MoE
from model.routing import Router
from model.transformer import DeepseekV3


@dataclass(slots=True)
class Attached:
    """What `attach_adapters` put on a network, and what it needs to take it off again."""

    layout: tuple[AdapterTensor, ...]
    places: dict[str, Place] = field(default_factory=dict)  # by tensor name
    wrapped: dict[str, Projection | nn.Embedding] = field(default_factory=dict)  # module path -> what lies under its LoRA


def attach_adapters(net: DeepseekV3, adapter: AdapterConfig, experts: Experts) -> None:
    """Freezes the network and adds the adapter's tensors, all zero, to it.

    Raises:
        AdapterError: the network carries adapters already, or lacks what the adapter names.
    """
    if net.attached is not None:
        raise AdapterError("This network carries adapters already: detach or merge them first.")
    attached = Attached(adapter_layout(net.config, adapter, experts))
    net.requires_grad_(False)
    for layer, chosen in experts.items():
        _attach_experts(net, adapter, layer, tuple(chosen))
    for tensor in attached.layout:
        shared = tensor.expert is None
        attached.places[tensor.name] = _shared_place(net, attached, adapter, tensor) if shared else _expert_place(net, tensor)
    net.attached = attached


def load_adapter(net: DeepseekV3, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Copies adapter tensors into the network, in place.

    Raises:
        AdapterError: names or shapes are not those of the attached adapter.
    """
    attached = _attached(net)
    check_state(attached.layout, tensors)
    with torch.no_grad():
        for name, place in attached.places.items():
            place.write(torch.from_numpy(np.ascontiguousarray(tensors[name])))


def adapter_state(net: DeepseekV3) -> dict[str, NDArray[np.float32]]:
    """The adapter's tensors as float32 arrays of their own, by name."""
    return {name: place.read().float().cpu().numpy().copy() for name, place in _attached(net).places.items()}


def adapted_modules(net: DeepseekV3) -> dict[str, LoRALinear | LoRAEmbedding]:
    """The modules under LoRA outside routed experts, by the names of the layout."""
    attached = _attached(net)
    shared = [tensor.name for tensor in attached.layout if tensor.kind == "lora_A" and tensor.expert is None]
    names = [name.removesuffix(".lora_A.weight") for name in shared]
    return {name: cast("LoRALinear | LoRAEmbedding", net.get_submodule(_path(net, name))) for name in names}


def parameters_of(net: DeepseekV3, names: Collection[str]) -> dict[str, nn.Parameter]:
    """The parameters of the named adapter tensors, by name; those of LoRA are the held slices (`set_trainable`).

    Raises:
        AdapterError: a name is not the adapter's, or is a router bias, which is no parameter.
    """
    places, found = _attached(net).places, {}
    for name in names:
        parameter = places[name].parameter if name in places else None
        if parameter is None:
            raise AdapterError(f"{name} is no parameter of the attached adapter: name a tensor of its layout that gradients train.")
        found[name] = parameter
    return found


def set_trainable(net: DeepseekV3, names: Collection[str], held_rank: int | None = None) -> None:
    """Lets gradients flow into exactly the named adapter tensors but router biases, and of LoRA into the leading `held_rank` slices alone.

    Those are rows of A, columns of B and the leading block of R; the other slices are no parameters, so nothing an optimiser does
    changes them. None, or a rank that a pair does not have, holds all of it. Parameters of LoRA may be other objects afterwards.

    Raises:
        AdapterError: `held_rank` is below 1.
    """
    if held_rank is not None and held_rank < 1:
        raise AdapterError(f"Rank {held_rank} holds nothing of an adapter: train at least 1.")
    for module in net.modules():
        if isinstance(module, LoRAPair):
            module.hold(held_rank)
    for name, place in _attached(net).places.items():
        if place.parameter is not None:
            place.parameter.requires_grad_(name in names)
            place.parameter.grad = None


def trained_parameters(net: DeepseekV3) -> dict[str, nn.Parameter]:
    """The adapter tensors that gradients flow into, sorted by name."""
    places = sorted(_attached(net).places.items())
    return {name: place.parameter for name, place in places if place.parameter is not None and place.parameter.requires_grad}


def merge_adapters(net: DeepseekV3) -> None:
    """Adds every adapter, in float32, to the weight it stands on; the network is then a plain one again, with the same outputs.

    A tied output head is untied where it or the embedding was adapted on its own.

    Raises:
        AdapterError: a weight is held in FP8, where a difference would be lost; load the base as float32 or bfloat16.
    """
    attached = _attached(net)
    _refuse_fp8(net, attached)
    with torch.no_grad():
        for path, projection in attached.wrapped.items():
            stored = projection.weight
            if stored is net.model.embed_tokens.weight:
                in_full = attached.places.get("model.embed_tokens.weight")  # then the weight is float32 up to here
                stored = in_full.base if isinstance(in_full, Widened) else stored
                net.config = replace(net.config, tie_word_embeddings=False)
            merged = cast("LoRALinear | LoRAEmbedding", net.get_submodule(path)).real_weight(stored.dtype)
            cast("Linear | nn.Embedding", projection).weight = nn.Parameter(merged)
        for moe in _mixtures(net):
            _merge_experts(moe)
    _take_off(net, merged=True)


def detach_adapters(net: DeepseekV3) -> None:
    """Takes the adapters off; the network is the checkpoint's again, all of it trainable that can be."""
    _take_off(net, merged=False)


def _take_off(net: DeepseekV3, merged: bool) -> None:
    attached = _attached(net)
    for place in attached.places.values():
        place.leave(merged)
    for path, projection in attached.wrapped.items():
        _replace(net, path, cast(nn.Module, projection))
    for moe in _mixtures(net):
        moe.experts.adapter = None
    net.attached = None
    for parameter in net.parameters():
        parameter.requires_grad_(parameter.dtype != FP8)


def _refuse_fp8(net: DeepseekV3, attached: Attached) -> None:
    held = [path for path, projection in attached.wrapped.items() if projection.weight.dtype == FP8]
    mixtures = ((path, module.experts) for path, module in net.named_modules() if isinstance(module, MoE))
    held += [path for path, experts in mixtures if experts.adapter and experts.down_proj.dtype == FP8]
    if held:
        raise AdapterError(f"{held[0]} is held in FP8, where an adapter cannot be merged: load the base as float32 or bfloat16.")


def _attached(net: DeepseekV3) -> Attached:
    if net.attached is None:
        raise AdapterError("This network carries no adapters: attach them first.")
    return cast(Attached, net.attached)


def _shared_place(net: DeepseekV3, attached: Attached, adapter: AdapterConfig, tensor: AdapterTensor) -> Place:
    module_name = tensor.name.removesuffix(".weight").removesuffix(f".{tensor.kind}")
    path = _path(net, module_name)
    if tensor.kind == "router_bias":
        return SelectionBias(cast(Router, net.get_submodule(path.removesuffix(".e_score_correction_bias"))))
    if tensor.kind == "full":
        return Widened(cast(nn.Parameter, net.get_submodule(path).weight))
    if path not in attached.wrapped:
        attached.wrapped[path] = cast("Projection | nn.Embedding", net.get_submodule(path))
        _replace(net, path, _adapted(attached.wrapped[path], adapter, adapter.rank_of(module_name)))
    return Factor(cast(LoRALinear, net.get_submodule(path)).pair, tensor.kind)


def _adapted(base: Projection | nn.Embedding, adapter: AdapterConfig, rank: int) -> LoRALinear | LoRAEmbedding:
    if isinstance(base, nn.Embedding):
        return LoRAEmbedding(base, rank, adapter.lora_alpha, adapter.core)
    return LoRALinear(base, rank, adapter.lora_alpha, adapter.core)


def _attach_experts(net: DeepseekV3, adapter: AdapterConfig, layer: int, chosen: tuple[int, ...]) -> None:
    hidden, width = net.config.hidden_size, net.config.moe_intermediate_size
    shapes = {"gate_proj": (width, hidden), "up_proj": (width, hidden), "down_proj": (hidden, width)}
    experts = _mixture(net, layer).experts
    device = experts.down_proj.device
    if adapter.expert_mode == "full":
        experts.adapter = FullExperts(shapes, chosen, device)
    else:
        experts.adapter = LoRAExperts(shapes, chosen, device, adapter.expert_rank, adapter.lora_alpha)


def _expert_place(net: DeepseekV3, tensor: AdapterTensor) -> Place:
    layer, expert = cast("tuple[int, int]", tensor.expert)
    projection = tensor.name.removeprefix(f"model.layers.{layer}.mlp.experts.{expert}.").partition(".")[0]
    module = cast("FullExperts | LoRAExperts", _mixture(net, layer).experts.adapter).part(expert, projection)
    if isinstance(module, FullDifference):
        return Beside(module.weight)
    return Factor(module, cast(FactorName, tensor.kind))


def _merge_experts(moe: MoE) -> None:
    adapted = cast("FullExperts | LoRAExperts | None", moe.experts.adapter)
    if adapted is None:
        return
    projections: tuple[ExpertProjection, ...] = ("gate_up_proj", "down_proj")
    for projection, expert in product(projections, map(int, adapted.experts)):
        weight = getattr(moe.experts, projection)[expert]
        weight.copy_(weight.float() + adapted.delta(expert, projection))


def _mixtures(net: DeepseekV3) -> Iterator[MoE]:
    return (module for module in net.modules() if isinstance(module, MoE))


def _mixture(net: DeepseekV3, layer: int) -> MoE:
    return cast(MoE, net.get_submodule(_path(net, f"model.layers.{layer}.mlp")))


def _path(net: DeepseekV3, name: str) -> str:
    """A module's path in memory from its name on disk, where MTP modules are further layers."""
    part = re.fullmatch(r"model\.layers\.(\d+)\.(.*)", name)
    layers = net.config.num_hidden_layers
    return f"mtp.{int(part[1]) - layers}.{part[2]}" if part and int(part[1]) >= layers else name


def _replace(net: DeepseekV3, path: str, module: nn.Module) -> None:
    parent, _, attribute = path.rpartition(".")
    setattr(net.get_submodule(parent), attribute, module)
