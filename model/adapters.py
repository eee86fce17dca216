"""Adapters on a network: attach, fill, read, merge, detach. Names and shapes are those of `model.layout`.

LoRA on projections is peft's own class; on routed experts it is ours (`model.expert_adapters`), because peft adapts all experts
or none. What is trained in full is the base's own parameter; its difference to the base is what counts as the adapter's tensor.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from model.expert_adapters import AdaptedExperts, ProjectionDelta, ProjectionLoRA
from model.layout import AdapterConfig, AdapterError, AdapterTensor, Experts, adapter_layout, check_state
from model.moe import MoE
from model.transformer import DeepseekV3

_NAME = "default"  # peft's name for an adapter that has none


@dataclass(slots=True)
class Attached:
    """What `attach_adapters` put on a network, and what it needs to take it off again."""

    layout: tuple[AdapterTensor, ...]
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)  # by tensor name
    bases: dict[str, Tensor] = field(default_factory=dict)  # of parameters trained in full: the checkpoint's values
    wrapped: dict[str, nn.Linear] = field(default_factory=dict)  # module path -> the projection under its LoRA


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


def merge_adapters(net: DeepseekV3) -> None:
    """Adds every adapter to the weight it stands on; the network is then a plain one again, with the same outputs.

    A tied output head that was adapted on its own is untied.
    """
    attached = _attached(net)
    with torch.no_grad():
        for path, linear in attached.wrapped.items():
            delta = cast(LoraLinear, net.get_submodule(path)).get_delta_weight(_NAME)
            if linear.weight is net.model.embed_tokens.weight:
                linear.weight = nn.Parameter(linear.weight.clone())
                net.config = replace(net.config, tie_word_embeddings=False)
            linear.weight += delta.to(linear.weight.dtype)
        for moe in _mixtures(net):
            _merge_experts(moe)
    attached.bases.clear()
    detach_adapters(net)


def detach_adapters(net: DeepseekV3) -> None:
    """Takes the adapters off; the network is the checkpoint's again, all of it trainable."""
    attached = _attached(net)
    with torch.no_grad():
        for name, base in attached.bases.items():
            attached.parameters[name].copy_(base)
    for path, linear in attached.wrapped.items():
        _replace(net, path, linear)
    for moe in _mixtures(net):
        moe.experts.adapter = None
    net.attached = None
    net.requires_grad_(True)


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
        attached.parameters[tensor.name] = parameter
        return
    if path not in attached.wrapped:
        linear = cast(nn.Linear, net.get_submodule(path))
        attached.wrapped[path] = linear
        _replace(net, path, _lora(linear, adapter.rank_of(module_name), adapter.lora_alpha))
    factor = getattr(net.get_submodule(path), f"lora_{kind}")[_NAME]
    attached.parameters[tensor.name] = factor.weight


def _lora(linear: nn.Linear, rank: int, alpha: float) -> LoraLinear:
    config = LoraConfig(r=rank, lora_alpha=cast(int, alpha), init_lora_weights=False)
    module: Any = LoraLinear(linear, _NAME, config=config, r=rank, lora_alpha=alpha)
    with torch.no_grad():
        module.lora_A[_NAME].weight.zero_()
        module.lora_B[_NAME].weight.zero_()
    linear.requires_grad_(False)
    return cast(LoraLinear, module)


def _attach_experts(net: DeepseekV3, attached: Attached, adapter: AdapterConfig, layer: int, chosen: tuple[int, ...]) -> None:
    hidden, width = net.config.hidden_size, net.config.moe_intermediate_size
    shapes = {"gate_proj": (width, hidden), "up_proj": (width, hidden), "down_proj": (hidden, width)}
    moe = _mixture(net, layer)

    def make(shape: tuple[int, int]) -> nn.Module:
        if adapter.expert_mode == "full":
            return ProjectionDelta(shape)
        return ProjectionLoRA(shape, adapter.expert_rank, adapter.lora_alpha / adapter.expert_rank)

    adapted = AdaptedExperts(shapes, make, chosen).to(moe.experts.down_proj.device)
    moe.experts.adapter = adapted
    for name, parameter in adapted.named_parameters():
        expert, projection, kind = re.fullmatch(r"experts\.(\d+)\.(\w+)\.(\w+)", name).groups()  # type: ignore[union-attr]
        suffix = "weight" if kind == "weight" else f"{kind}.weight"
        attached.parameters[f"model.layers.{layer}.mlp.experts.{expert}.{projection}.{suffix}"] = parameter


def _merge_experts(moe: MoE) -> None:
    adapted = cast("AdaptedExperts | None", moe.experts.adapter)
    if adapted is None:
        return
    for expert, projections in adapted.experts.items():
        deltas = {name: cast(ProjectionLoRA, part).delta() for name, part in cast(nn.ModuleDict, projections).items()}
        moe.experts.gate_up_proj[int(expert)] += torch.cat([deltas["gate_proj"], deltas["up_proj"]]).to(moe.experts.gate_up_proj.dtype)
        moe.experts.down_proj[int(expert)] += deltas["down_proj"].to(moe.experts.down_proj.dtype)


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
