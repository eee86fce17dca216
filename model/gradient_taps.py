"""Taps on adapted modules: in the backward pass each sees inputs and output gradients of its module, and sums them by unit.

While a network is tapped its tensors themselves get no gradient. The taps are autograd functions, so what they keep is
computed again, as everything else is, under gradient checkpointing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.hooks import RemovableHandle

from model.expert_adapters import PARTS, FullDifference, FullExperts, LoRAExperts
from model.grouped import Groups, WeightOf
from model.layers import RMSNorm
from model.layout import AdapterError
from model.lora import LoRAEmbedding, LoRALinear, LoRAPair
from model.moe import ExpertProjection, MoE, sorted_by_expert
from model.routing import Routing
from model.transformer import DeepseekV3
from model.unit_sums import Owners, UnitSums

Add: TypeAlias = Callable[..., None]  # takes the gradient of a module's output, then what was kept with it


@dataclass(slots=True)
class Taps:
    """Where gradients go, and whose the tokens in flight are; the caller says so before each forward pass."""

    sums: UnitSums
    names: Mapping[int, str]  # id of a trained parameter -> its tensor's name
    anchor: Tensor
    rows: Owners | None = None  # of states [b, t, .] and token ids [b, t]
    tokens: Owners | None = None  # of states [n, .]: those before the output head
    covered: set[str] = field(default_factory=set)

    def name(self, parameter: Tensor | None) -> str | None:
        return self.names.get(id(parameter))

    def owners(self, x: Tensor) -> Owners:
        return cast(Owners, self.tokens if x.dim() == 2 and x.is_floating_point() else self.rows)

    def tap(self, out: Tensor, add: Add, *kept: Tensor) -> Tensor:
        tapped: Tensor = _Tap.apply(out, self.anchor, add, *kept)  # type: ignore[no-untyped-call]
        return tapped


class _Tap(torch.autograd.Function):
    """The identity. The anchor requires a gradient, so that the backward pass comes here though nothing else before does."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, _anchor: Tensor, add: Add, *kept: Tensor) -> Tensor:
        ctx.save_for_backward(*kept)
        ctx.add = add
        return out.view_as(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kept = ctx.saved_tensors  # read once: checkpointing gives them out no second time
        ctx.add(gradient, *kept)
        return gradient, None, None, *(None for _ in kept)


@contextmanager
def tapped(net: DeepseekV3, trained: Mapping[str, nn.Parameter], sums: UnitSums) -> Iterator[Taps]:
    """Taps every module of the trained tensors; afterwards the network is as it was.

    Raises:
        AdapterError: a trained tensor is of a kind whose gradients are not taken apart here.
    """
    anchor = torch.zeros((), device=sums.flat.device, requires_grad=True)
    taps = Taps(sums, {id(parameter): name for name, parameter in trained.items()}, anchor)
    handles: list[RemovableHandle] = []
    wrapped: dict[MoE, _TappedExperts] = {}
    try:
        for module in list(net.modules()):
            handles += _tap_module(taps, module, wrapped)
        _refuse_rest(trained, taps.covered)
        for parameter in trained.values():
            parameter.requires_grad_(False)
        yield taps
    finally:
        for parameter in trained.values():
            parameter.requires_grad_(True)
        for handle in handles:
            handle.remove()
        for moe, experts in wrapped.items():
            moe.experts.adapter = experts.adapter


def _tap_module(taps: Taps, module: nn.Module, wrapped: dict[MoE, _TappedExperts]) -> list[RemovableHandle]:
    """One case a kind of trained tensor; a further kind is a case here and its function below."""
    if isinstance(module, LoRALinear):
        return _hooked(taps, module.pair, _pair_gradients, _factors(module.pair))
    if isinstance(module, LoRAEmbedding):
        return _hooked(taps, module, _lookup_gradients, _factors(module.pair))
    if isinstance(module, RMSNorm):
        return _hooked(taps, module, _norm_gradients, (module.weight,))
    if isinstance(module, MoE) and module.experts.adapter is not None:
        experts = _TappedExperts(taps, cast("FullExperts | LoRAExperts", module.experts.adapter))
        wrapped[module] = module.experts.adapter = experts
        taps.covered.update(filter(None, map(taps.name, experts.adapter.parameters())))
        return [module.gate.register_forward_hook(lambda _module, _inputs, routing: experts.follow(routing))]
    return []


def _hooked(
    taps: Taps, module: nn.Module, gradients: Callable[..., None], parameters: tuple[nn.Parameter | None, ...]
) -> list[RemovableHandle]:
    names = set(filter(None, map(taps.name, parameters)))
    if not names:
        return []
    taps.covered |= names

    def hook(module: nn.Module, inputs: tuple[Tensor], out: Tensor) -> Tensor:
        (x,) = inputs
        return taps.tap(out, partial(gradients, taps, module, taps.owners(x)), x)

    return [module.register_forward_hook(hook)]


def _refuse_rest(trained: Mapping[str, nn.Parameter], covered: set[str]) -> None:
    for name in sorted(trained.keys() - covered):
        raise AdapterError(f'{name} is trained in full, too large for a gradient of every record: set trainable.embedding_mode to "lora".')


def _factors(pair: LoRAPair) -> tuple[nn.Parameter | None, ...]:
    return pair.lora_A, pair.lora_B, pair.lora_R


def _sides(pair: LoRAPair) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A and s B, and what stands on their other sides: s B or s B R [out, r] before A, A or R A [r, in] behind B."""
    a, b = pair.factor("lora_A"), pair.factor("lora_B") * pair.scaling
    if pair.lora_R is None:
        return a, b, b, a
    core = pair.factor("lora_R")
    return a, b, b @ core, core @ a


def _pair_gradients(taps: Taps, pair: LoRAPair, owners: Owners, gradient: Tensor, x: Tensor) -> None:
    """d / dA = s (B R)^T g x^T, d / dB = s g (R A x)^T and d / dR = s B^T g (A x)^T; gradient g [.., out], x [.., in]."""
    a, b, before_a, behind_b = _sides(pair)
    left, right = owners.grouped(gradient), owners.grouped(x)
    if name := taps.name(pair.lora_A):
        taps.sums.add_products(name, owners, left @ before_a, right)
    if name := taps.name(pair.lora_B):
        taps.sums.add_products(name, owners, left, F.linear(right, behind_b * pair.scaling))
    if name := taps.name(pair.lora_R):
        taps.sums.add_products(name, owners, left @ b, F.linear(right, a))


def _lookup_gradients(taps: Taps, embedding: LoRAEmbedding, owners: Owners, gradient: Tensor, input_ids: Tensor) -> None:
    """The same where x is one-hot and the gradient stands on A's side; gradient g [b, t, H], input_ids [b, t]."""
    pair, right = embedding.pair, owners.grouped(gradient)
    a, b, before_a, behind_b = _sides(pair)
    if name := taps.name(pair.lora_A):
        taps.sums.add_products(name, owners, F.embedding(input_ids, before_a), right)
    if name := taps.name(pair.lora_B):
        taps.sums.add_to_rows(name, owners, input_ids, F.linear(right, behind_b * pair.scaling))
    if name := taps.name(pair.lora_R):
        taps.sums.add_products(name, owners, F.embedding(input_ids, b), F.linear(right, a))


def _norm_gradients(taps: Taps, norm: RMSNorm, owners: Owners, gradient: Tensor, x: Tensor) -> None:
    """The gradient times the normed input, summed over tokens."""
    normed = F.rms_norm(owners.grouped(x), norm.weight.shape, eps=norm.eps)
    taps.sums.add(cast(str, taps.name(norm.weight)), owners, (owners.grouped(gradient) * normed).sum(1))


class _TappedExperts(nn.Module):
    """Stands before a layer's adapted experts, whose tokens are sorted by expert, and follows whose each token is."""

    def __init__(self, taps: Taps, adapter: FullExperts | LoRAExperts) -> None:
        super().__init__()
        self.adapter, self._taps = adapter, taps
        self._units = torch.empty(0)
        self._owners: dict[int, Owners] = {}

    def follow(self, routing: Routing) -> None:
        """Notes the unit of each (token, expert) pair in the order in which the experts will get them."""
        units = cast(Owners, self._taps.rows).units
        _, source = sorted_by_expert(routing)
        self._units, self._owners = units[source // (len(routing.indices) // len(units))], {}

    def own_weights(self, projection: ExpertProjection, groups: Groups, weight_of: WeightOf) -> Mapping[int, Tensor]:
        return self.adapter.own_weights(projection, groups, weight_of)

    def add_to(self, out: Tensor, projection: ExpertProjection, x: Tensor, groups: Groups) -> Tensor:
        out = self.adapter.add_to(out, projection, x, groups)
        mine = tuple(group for group in groups if str(group[0]) in self.adapter.experts)
        if not mine:
            return out
        for expert, start, end in mine:
            if expert not in self._owners:
                self._owners[expert] = Owners.of_tokens(self._units[start:end])
        return self._taps.tap(out, partial(self._add, projection, mine, self._owners), x)

    def _add(self, projection: ExpertProjection, groups: Groups, owners: dict[int, Owners], gradient: Tensor, x: Tensor) -> None:
        for expert, start, end in groups:
            parts = gradient[start:end].chunk(len(PARTS[projection]), -1)
            for name, part in zip(PARTS[projection], parts, strict=True):
                trained = self.adapter.part(expert, name)
                gradients: Callable[..., None] = _pair_gradients if isinstance(trained, LoRAPair) else _difference_gradients
                gradients(self._taps, trained, owners[expert], part, x[start:end])


def _difference_gradients(taps: Taps, difference: FullDifference, owners: Owners, gradient: Tensor, x: Tensor) -> None:
    """[out, in] for every unit: as large as u copies of what is trained."""
    if name := taps.name(difference.weight):
        taps.sums.add_products(name, owners, owners.grouped(gradient), owners.grouped(x))
