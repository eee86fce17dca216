"""Gradients of units, each apart: a linear map's gradient is a sum of outer products over tokens, here over each unit's own tokens.

The product of all of a unit's tokens is one matrix product, so that nothing is ever written out per token (Opacus:
Yousefpour et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Owners:
    """Which unit each token belongs to: tokens [p, L, .] of p groups, group i of unit `units[i]`; absent tokens are zero."""

    units: Tensor  # [p] int64
    place: Tensor | None = None  # [n] the token's place among the p L; None where tokens come as [p, L, .] already
    length: int = 0

    @classmethod
    def of_tokens(cls, units: Tensor) -> Self:
        """Owners of tokens [n, .] in any order, from each one's unit [n]."""
        present, group, counts = units.unique(return_inverse=True, return_counts=True)
        order = group.argsort(stable=True)
        within = torch.empty_like(order)
        within[order] = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[group[order]]
        length = int(counts.max()) if len(counts) else 0
        return cls(present, group * length + within, length)

    def grouped(self, tokens: Tensor) -> Tensor:
        """Tokens [n, q] or [p, L, q] as [p, L, q] float32."""
        if self.place is None:
            return tokens.float()
        groups = tokens.new_zeros(len(self.units) * self.length, tokens.shape[-1], dtype=torch.float32)
        return groups.index_copy_(0, self.place, tokens.float()).view(len(self.units), self.length, -1)


class UnitSums:
    """Gradients `flat` [u, d] of u units, in float32: d counts the elements of all tensors in the order of their sorted names."""

    def __init__(self, shapes: Shapes, units: int, device: torch.device) -> None:
        self.shapes = dict(sorted(shapes.items()))
        self._ends = _ends(self.shapes)
        self.flat = torch.zeros(units, max(self._ends.values(), default=0), device=device)

    def add(self, name: str, owners: Owners, gradients: Tensor) -> None:
        """Adds gradients [p, *shape] of the groups' tensor `name` to their units."""
        self._of(name).index_add_(0, owners.units, gradients.flatten(1))

    def add_products(self, name: str, owners: Owners, left: Tensor, right: Tensor) -> None:
        """Adds left^T right of each group's tokens, left [p, L, out] and right [p, L, in], to its unit's tensor `name` [out, in].

        Where the tensor is smaller, as a held slice of a factor is, it is the leading part of the product.
        """
        rows, columns = self.shapes[name]
        self.add(name, owners, left[..., :rows].transpose(1, 2) @ right[..., :columns])

    def add_to_rows(self, name: str, owners: Owners, rows: Tensor, values: Tensor) -> None:
        """Adds values [p, L, r] to the rows [p, L] of their units' tensor `name` [V, r], or their leading part to [V, held]."""
        tensors = self._of(name).unflatten(1, self.shapes[name])
        tensors.index_put_((owners.units[:, None].expand_as(rows), rows), values[..., : tensors.shape[2]], accumulate=True)

    def _of(self, name: str) -> Tensor:
        """[u, elements], a view."""
        end = self._ends[name]
        return self.flat[:, end - math.prod(self.shapes[name]) : end]


def by_name(flat: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """Views of flat [..., d] as tensors [..., *shape]; shapes are sorted by name."""
    parts = flat.split([math.prod(shape) for shape in shapes.values()], -1)
    return {name: part.unflatten(-1, shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def _ends(shapes: Shapes) -> dict[str, int]:
    ends, end = {}, 0
    for name, shape in shapes.items():
        end += math.prod(shape)
        ends[name] = end
    return ends
