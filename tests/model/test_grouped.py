"""Grouped products and sums have the gradients of their definitions, whatever of it is frozen and whoever has no token."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.grouped import Kernel, add_rows, combine, grouped_linear, groups_of, kernel_takes


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_definition(x: Tensor, counts: list[int], stack: Tensor, own: dict[int, Tensor]) -> Tensor:
    weights = [own.get(expert, stack[expert]) for expert in range(len(counts))]
    return torch.cat([rows @ weight.t() for rows, weight in zip(x.split(counts), weights, strict=True)])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    counts=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    owned=st.sets(st.integers(0, 3)),
    trained=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_a_grouped_product_is_its_definition(counts: list[int], owned: set[int], trained: tuple[bool, bool, bool]) -> None:
    x, stack = drawn(0, sum(counts), 5).requires_grad_(trained[0]), drawn(1, len(counts), 4, 5).requires_grad_(trained[1])
    owners = [expert for expert in owned if expert < len(counts) and counts[expert]]
    own = {expert: drawn(expert + 2, 4, 5).requires_grad_(trained[2]) for expert in owners}
    leaves = [leaf for leaf in (x, stack, *own.values()) if leaf.requires_grad]
    ours = grouped_linear(x, groups_of(counts), 4, lambda e, _: stack[e].detach(), stack if trained[1] else None, own)
    expected = by_definition(x, counts, stack, own)
    assert torch.allclose(ours, expected)
    if leaves and expected.requires_grad and ours.requires_grad:
        along = drawn(9, *expected.shape)
        found, wanted = (torch.autograd.grad(out, leaves, along, allow_unused=True) for out in (ours, expected))
        for one, other, leaf in zip(found, wanted, leaves, strict=True):
            empty = torch.zeros_like(leaf)
            assert torch.allclose(empty if one is None else one, empty if other is None else other)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    counts=st.lists(st.integers(0, 3), min_size=1, max_size=4).filter(any),
    owned=st.sets(st.integers(0, 3)),
    trained=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_one_call_for_all_experts_gives_the_same(counts: list[int], owned: set[int], trained: tuple[bool, bool, bool]) -> None:
    """In float32, which PyTorch's grouped product takes on a CPU too."""

    def made(with_kernel: bool) -> list[Tensor]:
        x = drawn(0, sum(counts), 16).float().requires_grad_(trained[0])
        stack = drawn(1, len(counts), 8, 16).float().requires_grad_(trained[1])
        owners = [expert for expert in owned if expert < len(counts) and counts[expert]]
        own = {expert: drawn(expert + 2, 8, 16).float().requires_grad_(trained[2]) for expert in owners}
        kernel = Kernel(stack.detach(), torch.tensor(counts).cumsum(0, dtype=torch.int32)) if with_kernel else None
        out = grouped_linear(x, groups_of(counts), 8, lambda e, _: stack[e].detach(), stack if trained[1] else None, own, kernel)
        leaves = [leaf for leaf in (x, stack, *own.values()) if leaf.requires_grad]
        found = torch.autograd.grad(out, leaves, drawn(9, *out.shape).float(), allow_unused=True) if out.requires_grad else ()
        return [out, *(gradient for gradient in found if gradient is not None)]

    one, other = made(with_kernel=False), made(with_kernel=True)
    assert len(one) == len(other) and all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(one, other, strict=True))


def test_the_kernel_is_for_a_gpu_and_bfloat16() -> None:
    x, stack = drawn(0, 5, 16).bfloat16(), drawn(1, 3, 8, 16).bfloat16()
    assert not kernel_takes(x, stack) and not kernel_takes(x.float(), stack)


def test_an_expert_without_tokens_has_no_gradient() -> None:
    own = {expert: drawn(expert, 4, 5).requires_grad_() for expert in (0, 1)}
    out = grouped_linear(drawn(2, 3, 5), groups_of([3, 0]), 4, lambda *_: drawn(3, 4, 5), None, own)
    assert [gradient is not None for gradient in torch.autograd.grad(out.sum(), [*own.values()], allow_unused=True)] == [True, False]


def test_sums_and_added_rows_have_the_gradients_of_their_definitions() -> None:
    source, rows = torch.tensor([0, 2, 2, 1, 0]), torch.tensor([4, 1])
    out, weights, added = drawn(0, 5, 3).requires_grad_(), drawn(1, 5).requires_grad_(), drawn(2, 2, 3).requires_grad_()

    def mixed(out: Tensor, weights: Tensor, added: Tensor) -> Tensor:
        return combine(add_rows(out * 2, rows, added), weights, source, 3)

    assert torch.autograd.gradcheck(mixed, (out, weights, added))
    expected = torch.zeros(3, 3, dtype=torch.float64).index_add(0, source, (out * 2).index_add(0, rows, added) * weights[:, None])
    assert torch.allclose(mixed(out, weights, added), expected)
