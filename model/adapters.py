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
from torch import Tensor, nn

from model.expert_adapters import FullExperts, LoRAExperts
from model.fp8 import FP8
from model.layers import Linear, Projection
from model.layout import AdapterConfig, AdapterError, AdapterTensor, Experts, adapter_layout, check_state
from model.lora import LoRALinear
from model.moe import ExpertProjection, MoE
from model.transformer import DeepseekV3


@dataclass(slots=True)
class Attached:
    """What `attach_adapters` put on a network, and what it needs to take it off again."""

    layout: tuple[AdapterTensor, ...]
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)  # by tensor name
    bases: dict[str, Tensor] = field(default_factory=dict)  # of parameters trained in full: the checkpoint's values
    wrapped: dict[str, Projection] = field(default_factory=dict)  # module path -> the projection under its LoRA


def attach_adapters(net: DeepseekV3, adapter: AdapterConfig, experts: Experts) -> None:
    """Freezes the network and adds the adapter's tensors, all zero, to it.

    Raises:
        AdapterError: the network carries adapters already, or lacks what the adapter names.
    """
    if net.attached is not None:
        raise AdapterError("This network carries adapters already: detach or merge them first.")
    attached = Attached(adapter_layout(net.config, adapter, experts))
    net.requires_grad_(False)
    for tensor in attached.layout:
        if tensor.expert is None:
            _attach_shared(net, attached, adapter, tensor)
    for layer, chosen in experts.items():
        _attach_experts(net, attached, adapter, layer, tuple(chosen))
    net.attached = attached


def load_adapter(net: DeepseekV3, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Copies adapter tensors into the network, in place.

    Raises:
        AdapterError: names or shapes are not those of the attached adapter.
    """
    attached = _attached(net)
    check_state(attached.layout, tensors)
    with torch.no_grad():
        for name, parameter in attached.parameters.items():
            values = torch.from_numpy(np.ascontiguousarray(tensors[name])).to(parameter.device)
            base = attached.bases.get(name)
            parameter.copy_(values if base is None else base + values)


def adapter_state(net: DeepseekV3) -> dict[str, NDArray[np.float32]]:
    """The adapter's tensors as float32 arrays of their own, by name."""
    attached = _attached(net)
    state = {}
    for name, parameter in attached.parameters.items():
        base = attached.bases.get(name)
        values = parameter.detach() if base is None else parameter.detach() - base
        state[name] = values.float().cpu().numpy().copy()
    return state


def set_trainable(net: DeepseekV3, names: Collection[str]) -> None:
    """Lets gradients flow into exactly the named adapter tensors."""
    for name, parameter in _attached(net).parameters.items():
        parameter.requires_grad_(name in names)
        parameter.grad = None


def trained_parameters(net: DeepseekV3) -> dict[str, nn.Parameter]:
    """The adapter tensors that gradients flow into, sorted by name."""
    parameters = _attached(net).parameters
    return {name: parameters[name] for name in sorted(parameters) if parameters[name].requires_grad}


def merge_adapters(net: DeepseekV3) -> None:
    """Adds every adapter, in float32, to the weight it stands on; the network is then a plain one again, with the same outputs.

    A tied output head that was adapted on its own is untied.

    Raises:
        AdapterError: a weight is held in FP8, where a difference would be lost; load the base as float32 or bfloat16.
    """
    attached = _attached(net)
    _refuse_fp8(net, attached)
    with torch.no_grad():
        for path, projection in attached.wrapped.items():
            stored, embedding = projection.weight, net.model.embed_tokens.weight
            if projection.weight is embedding:  # which is float32 up to here where it is trained in full
                stored = attached.bases.get("model.embed_tokens.weight", embedding)
                net.config = replace(net.config, tie_word_embeddings=False)
            merged = cast(LoRALinear, net.get_submodule(path)).real_weight(stored.dtype)
            cast(Linear, projection).weight = nn.Parameter(merged)
        for moe in _mixtures(net):
            _merge_experts(moe)
        for name, base in attached.bases.items():
            attached.parameters[name].data = attached.parameters[name].to(base.dtype)
    attached.bases.clear()
    detach_adapters(net)


def detach_adapters(net: DeepseekV3) -> None:
    """Takes the adapters off; the network is the checkpoint's again, all of it trainable that can be."""
    attached = _attached(net)
    for name, base in attached.bases.items():
        attached.parameters[name].grad, attached.parameters[name].data = None, base
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


def _attach_shared(net: DeepseekV3, attached: Attached, adapter: AdapterConfig, tensor: AdapterTensor) -> None:
    module_name, _, kind = tensor.name.removesuffix(".weight").partition(".lora_")
    path = _path(net, module_name)
    if tensor.kind == "full":
        parameter = cast(nn.Parameter, net.get_submodule(path).weight)
        attached.bases[tensor.name] = parameter.detach().clone()
        parameter.data = parameter.float()
        attached.parameters[tensor.name] = parameter
        return
    if path not in attached.wrapped:
        projection = cast(Projection, net.get_submodule(path))
        attached.wrapped[path] = projection
        _replace(net, path, LoRALinear(projection, adapter.rank_of(module_name), adapter.lora_alpha))
    pair = cast(LoRALinear, net.get_submodule(path)).pair
    attached.parameters[tensor.name] = pair.lora_A if kind == "A" else pair.lora_B


def _attach_experts(net: DeepseekV3, attached: Attached, adapter: AdapterConfig, layer: int, chosen: tuple[int, ...]) -> None:
    hidden, width = net.config.hidden_size, net.config.moe_intermediate_size
    shapes = {"gate_proj": (width, hidden), "up_proj": (width, hidden), "down_proj": (hidden, width)}
    experts = _mixture(net, layer).experts
    device = experts.down_proj.device
    if adapter.expert_mode == "full":
        adapted: FullExperts | LoRAExperts = FullExperts(shapes, chosen, device)
    else:
        adapted = LoRAExperts(shapes, chosen, device, adapter.expert_rank, adapter.lora_alpha)
    experts.adapter = adapted
    for name, parameter in adapted.named_parameters():
        expert, projection, kind = re.fullmatch(r"experts\.(\d+)\.(\w+)\.(\w+)", name).groups()  # type: ignore[union-attr]
        suffix = "weight" if kind == "weight" else f"{kind}.weight"
        attached.parameters[f"model.layers.{layer}.mlp.experts.{expert}.{projection}.{suffix}"] = parameter


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
