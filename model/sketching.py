"""Sketches of the mean gradient of the weights under LoRA, G Omega and Q^T G, without G ever being held (Halko et al. 2011, section 1.6).

With x [n, in] the inputs of a projection and g [n, out] the gradients of its outputs, G = g^T x, so that G Omega = g^T (x Omega) and
Q^T G = (g Q)^T x. G is the gradient at the weight that the adapter makes of the base's. Where head and embedding are tied, each has
the part of the gradient that comes through itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from model.adapters import adapted_modules
from model.layout import AdapterError
from model.lora import LoRAEmbedding, LoRALinear
from model.training import Batch, Execution, LossTerms, accumulate_gradients
from model.transformer import DeepseekV3

_Adapted: TypeAlias = LoRALinear | LoRAEmbedding
_Product: TypeAlias = Callable[
    [_Adapted, Tensor, Tensor, Tensor], Tensor
]  # of module, factor, inputs [n, in] or ids [n], gradients [n, out]


def left_sketch(
    net: DeepseekV3,
    batches: Iterable[Batch],
    omegas: Mapping[str, Tensor],
    *,
    mtp_weight: float = 0.0,
    execution: Execution | None = None,
) -> dict[str, Tensor]:
    """G Omega [out, s] for each module named in `omegas` (Omega [in, s]), summed in Omega's type.

    Names are those of `model.layout` without `.lora_A.weight`. G is the mean over the batches of the gradient of each one's mean
    loss: the main loss, and that of multi-token prediction times `mtp_weight`. Modules that the loss does not reach have zeros.
    Nothing of the network changes. `execution` is without peers. The modules' inputs are kept through the backward pass, also with
    gradient checkpointing.

    Raises:
        AdapterError: a name is not that of a module which the attached adapter adapts by LoRA.
    """
    sums = {name: omegas[name].new_zeros(m.pair.lora_B.shape[0], omegas[name].shape[1]) for name, m in _named(net, omegas).items()}
    return _sketch(net, batches, omegas, _left, sums, LossTerms(mtp_weight=mtp_weight), execution)


def right_sketch(
    net: DeepseekV3,
    batches: Iterable[Batch],
    bases: Mapping[str, Tensor],
    *,
    mtp_weight: float = 0.0,
    execution: Execution | None = None,
) -> dict[str, Tensor]:
    """Q^T G [s, in] for each module named in `bases` (Q [out, s]); the rest as of `left_sketch`."""
    sums = {name: bases[name].new_zeros(bases[name].shape[1], m.pair.lora_A.shape[1]) for name, m in _named(net, bases).items()}
    return _sketch(net, batches, bases, _right, sums, LossTerms(mtp_weight=mtp_weight), execution)


def _left(module: _Adapted, omega: Tensor, inputs: Tensor, gradients: Tensor) -> Tensor:
    if isinstance(module, LoRAEmbedding):
        sketch = omega.new_zeros(module.base.num_embeddings, omega.shape[1])
        return sketch.index_add_(0, inputs, gradients @ omega)
    return gradients.T @ (inputs.to(omega.dtype) @ omega)


def _right(module: _Adapted, basis: Tensor, inputs: Tensor, gradients: Tensor) -> Tensor:
    if isinstance(module, LoRAEmbedding):
        return basis[inputs].T @ gradients
    return (gradients @ basis).T @ inputs.to(basis.dtype)


def _named(net: DeepseekV3, factors: Mapping[str, Tensor]) -> dict[str, _Adapted]:
    modules = adapted_modules(net)
    for name in factors:
        if name not in modules:
            raise AdapterError(f"{name} is no module that the attached adapter adapts by LoRA: sketch one of its layout.")
    return {name: modules[name] for name in factors}


def _sketch(
    net: DeepseekV3,
    batches: Iterable[Batch],
    factors: Mapping[str, Tensor],
    product: _Product,
    sums: dict[str, Tensor],
    terms: LossTerms,
    execution: Execution | None,
) -> dict[str, Tensor]:
    count = 0
    with _frozen(net), _watched(_named(net, factors), factors, product, sums):
        for batch in batches:
            accumulate_gradients(net, batch, terms, execution or Execution())
            count += 1
    return {name: values / max(count, 1) for name, values in sums.items()}


@contextmanager
def _frozen(net: DeepseekV3) -> Iterator[None]:
    """The network without a parameter that gradients are kept of."""
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def _watched(
    modules: Mapping[str, _Adapted], factors: Mapping[str, Tensor], product: _Product, sums: Mapping[str, Tensor]
) -> Iterator[None]:
    """Adds to the sums whenever a gradient reaches a module's output."""
    handles = [_watch(module, partial(product, module, factors[name]), sums[name]) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _watch(module: nn.Module, product: Callable[[Tensor, Tensor], Tensor], total: Tensor) -> RemovableHandle:
    def on_output(_: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        inputs: Tensor = arguments[0].detach()
        rows = inputs.flatten() if not inputs.is_floating_point() else inputs.flatten(0, -2)

        def on_gradient(gradient: Tensor) -> None:
            total.add_(product(rows, gradient.flatten(0, -2).to(total.dtype)))

        # Where nothing before it needs a gradient, the graph begins here.
        watched = output if output.requires_grad else output.detach().requires_grad_()
        watched.register_hook(on_gradient)
        return watched

    return module.register_forward_hook(on_output)
