"""Products of tokens that are sorted by expert with each expert's own weight: one matrix product an expert, no copy of any weight.

Where a launch costs more than a small product, one kernel multiplies all experts whose weights lie in one stack (`Kernel`).
PyTorch's own indexing would give every expert a gradient of the whole stack; here an expert's gradient is written where it belongs, and
only for what is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from model import few_rows

Groups: TypeAlias = tuple[tuple[int, int, int], ...]  # expert, its first row, the row behind its last; experts without tokens are absent
WeightOf: TypeAlias = Callable[[int, torch.dtype], Tensor]  # an expert's weight [out, in] in that type, detached

_ALIGNED = 8  # elements of bfloat16: grouped kernels read 16 bytes at a time
_CAPABILITIES = (9, 10)  # Hopper and Blackwell; for other cards PyTorch itself multiplies one expert after the other, and waits for the GPU


@dataclass(frozen=True, slots=True)
class Kernel:
    """PyTorch's grouped product over all experts, for rows that are sorted by expert."""

    stack: Tensor  # [E, out, in], detached, of the rows' type
    ends: Tensor  # [E], int32, beside the stack: the row behind each expert's last

    def products(self, x: Tensor) -> Tensor:
        """x [m, in] times each expert's weight: [m, out]."""
        return F.grouped_mm(x, self.stack.mT, offs=self.ends)

    def inputs_gradient(self, gradient: Tensor) -> Tensor:
        """[m, in] of the gradient [m, out], which is contiguous."""
        return F.grouped_mm(gradient, self.stack, offs=self.ends)


def kernel_takes(x: Tensor, stack: Tensor) -> bool:
    """Whether `Kernel` is faster for x and a stack [E, out, in] than one product an expert: by their types, sizes and device."""
    if not x.is_cuda or not x.dtype == stack.dtype == torch.bfloat16 or any(size % _ALIGNED for size in stack.shape[1:]):
        return False
    return torch.cuda.get_device_capability(x.device)[0] in _CAPABILITIES


def groups_of(counts: list[int]) -> Groups:
    """The rows of each expert when counts[e] tokens for expert e follow those of expert e - 1."""
    groups, start = [], 0
    for expert, count in enumerate(counts):
        if count:
            groups.append((expert, start, start + count))
        start += count
    return tuple(groups)


def grouped_linear(
    x: Tensor,
    groups: Groups,
    width: int,
    weight_of: WeightOf,
    stack: Tensor | None,
    own: Mapping[int, Tensor],
    kernel: Kernel | None = None,
) -> Tensor:
    """x [m, in], sorted by expert, times each expert's weight: [m, width].

    Gradients reach x, the tensors of `own` (they stand for the weights of their experts) and, where it is given, `stack`
    [E, out, in], from which `weight_of` then takes the others. Where `kernel` is given it multiplies them, and `groups` are in the
    experts' order, each once.
    """
    experts, weights = tuple(own), tuple(own.values())
    if not torch.is_grad_enabled():
        return _products(x, groups, width, _chooser(weight_of, experts, weights), kernel, experts)
    out: Tensor = _GroupedLinear.apply(x, groups, width, weight_of, stack, kernel, experts, *weights)  # type: ignore[no-untyped-call]
    return out


class _GroupedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        groups: Groups,
        width: int,
        weight_of: WeightOf,
        stack: Tensor | None,
        kernel: Kernel | None,
        experts: tuple[int, ...],
        *weights: Tensor,
    ) -> Tensor:
        _, _, _, _, *trained = ctx.needs_input_grad
        ctx.save_for_backward(x if any(trained) else None, *weights)
        ctx.groups, ctx.weight_of, ctx.experts, ctx.width = groups, weight_of, experts, x.shape[1]
        ctx.stack_shape = None if stack is None else (stack.shape, stack.dtype)
        ctx.kernel = kernel  # its stack is the module's own: what shards it frees and refills the same storage before the backward pass
        return _products(x, groups, width, _chooser(weight_of, experts, weights), kernel, experts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        x, *weights = ctx.saved_tensors
        needs_x, _, _, _, needs_stack = ctx.needs_input_grad[:5]
        gradient = gradient.contiguous()
        x_gradient = _inputs_gradient(ctx, weights, gradient) if needs_x else None
        stack_gradient = _stack_gradient(ctx, x, gradient) if needs_stack else None
        return x_gradient, None, None, None, stack_gradient, None, None, *_own_gradients(ctx, x, weights, gradient)


def _products(x: Tensor, groups: Groups, width: int, weight: WeightOf, kernel: Kernel | None, own: tuple[int, ...]) -> Tensor:
    out = x.new_empty(len(x), width) if kernel is None else kernel.products(x)
    for expert, start, end in _left_by(kernel, groups, own):
        rows, matrix = x[start:end], weight(expert, x.dtype)
        if few_rows.divides(rows, matrix):
            few_rows.multiply(rows, matrix, out[start:end])
        else:
            torch.mm(rows, matrix.t(), out=out[start:end])
    return out


def _left_by(kernel: Kernel | None, groups: Groups, own: tuple[int, ...]) -> Groups:
    """Groups whose product is still to be made: of all, or of experts with weights of their `own`, which no stack holds."""
    return groups if kernel is None else tuple(group for group in groups if group[0] in own)


def _chooser(weight_of: WeightOf, experts: tuple[int, ...], weights: Sequence[Tensor]) -> WeightOf:
    if not experts:
        return weight_of
    own = dict(zip(experts, weights, strict=True))
    return lambda expert, dtype: own[expert].to(dtype) if expert in own else weight_of(expert, dtype)


def _inputs_gradient(ctx: Any, weights: list[Tensor], gradient: Tensor) -> Tensor:
    weight, kernel = _chooser(ctx.weight_of, ctx.experts, weights), ctx.kernel
    out = gradient.new_empty(len(gradient), ctx.width) if kernel is None else kernel.inputs_gradient(gradient)
    for expert, start, end in _left_by(kernel, ctx.groups, ctx.experts):
        torch.mm(gradient[start:end], weight(expert, gradient.dtype), out=out[start:end])
    return out


def _stack_gradient(ctx: Any, x: Tensor, gradient: Tensor) -> Tensor:
    shape, dtype = ctx.stack_shape
    out = torch.empty(shape, dtype=dtype, device=x.device)
    routed = {expert for expert, _, _ in ctx.groups} - set(ctx.experts)
    for expert in range(shape[0]):
        if expert not in routed:
            out[expert].zero_()
    for expert, start, end in ctx.groups:
        if expert in routed and dtype == x.dtype:
            torch.mm(gradient[start:end].t(), x[start:end], out=out[expert])
        elif expert in routed:
            out[expert] = gradient[start:end].t() @ x[start:end]
    return out


def _own_gradients(ctx: Any, x: Tensor, weights: list[Tensor], gradient: Tensor) -> list[Tensor | None]:
    needed = dict(zip(ctx.experts, ctx.needs_input_grad[7:], strict=True))
    rows = {expert: (start, end) for expert, start, end in ctx.groups if needed.get(expert)}
    return [
        (gradient[slice(*rows[expert])].t() @ x[slice(*rows[expert])]).to(weight.dtype) if expert in rows else None
        for expert, weight in zip(ctx.experts, weights, strict=True)
    ]


def combine(out: Tensor, weights: Tensor, source: Tensor, tokens: int) -> Tensor:
    """Each token's weighted sum of its experts' outputs: out [m, H], weights [m] and source [m], the token of a row, to [tokens, H].

    PyTorch's own operations would keep the weighted outputs too for the backward pass.
    """
    mixed: Tensor = _Combine.apply(out, weights, source, tokens)  # type: ignore[no-untyped-call]
    return mixed


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, out: Tensor, weights: Tensor, source: Tensor, tokens: int) -> Tensor:
        ctx.save_for_backward(out, weights, source)
        return out.new_zeros(tokens, out.shape[1]).index_add_(0, source, out * weights[:, None].to(out.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        out, weights, source = ctx.saved_tensors
        rows = gradient.index_select(0, source)
        return rows * weights[:, None].to(out.dtype), (rows * out).sum(-1).to(weights.dtype), None, None


def add_rows(out: Tensor, rows: Tensor, added: Tensor) -> Tensor:
    """Adds `added` [n, width] in place to the rows [n] of out [m, width]; as above, nothing is kept for the backward pass but `rows`."""
    changed: Tensor = _AddRows.apply(out, rows, added)  # type: ignore[no-untyped-call]
    return changed


class _AddRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, out: Tensor, rows: Tensor, added: Tensor) -> Tensor:
        ctx.mark_dirty(out)
        ctx.save_for_backward(rows)
        return out.index_add_(0, rows, added)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor]:
        (rows,) = ctx.saved_tensors
        return gradient, None, gradient.index_select(0, rows)
