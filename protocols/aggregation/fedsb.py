"""Only a core R [r, r] between fixed bases is trained, so that its mean is exact: Delta W = B R A (Fed-SB, arXiv:2502.15436, section 3).

The bases are the top-r singular vectors of the mean of the institutions' first gradients, as in section 3 after LoRA-SB
(arXiv:2411.19557), found by two secure sums of sketches in round 0: Y = sum of G_k Omega, Q a basis of Y, Z = sum of Q^T G_k, and the
SVD of Z. An institution divides both by the norm of its sketches G_k Omega of all modules together: directions are kept,
institutions count the same, and the bound is public. It is one norm for both, so that Z is a projection of what Y is a sketch of;
with two, the coordinator would hold two sums of the same gradients with different weights, and could solve for those of two
institutions. In a private run there are no such sums, and bases are the public starting values. R starts at zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.aggregation.base import Rule, Tensor, Values
from protocols.aggregation.products import orthonormality
from protocols.aggregation.sketches import (
    TOLERANCE,
    Array,
    Module,
    Proposal,
    check_figure,
    check_names,
    checked_array,
    modules,
    sketching_matrix,
)
from protocols.encoding import Block
from protocols.plan import Plan
from protocols.schedule import PlannedSum
from protocols.state import State, Tensors, with_arrays


class FedSB(Rule):
    """R and what is trained in full, in every round."""

    def trained(self, round_number: int, layout: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(tensor for tensor in layout if tensor.kind in ("lora_R", "full"))

    def lanes(self, plan: Plan, state: State, planned: PlannedSum, layout: Sequence[Tensor]) -> tuple[Block, ...]:
        """An institution's sketches have norm 1 together, so that no lane is above it; columns of Omega being of variance 1 or so each,
        its cores have about 1 / sqrt(s), and what were above 1 is clipped."""
        found = modules_of(plan, layout)
        if planned.kind == "gradient":
            return tuple(Block(f"gradient.{m.name}", (m.out, m.size), 1.0, False) for m in found)
        return tuple(Block(f"core.{m.name}", (m.size, m.width), 1.0, False) for m in found) if planned.kind == "gradient-2" else ()

    def basis(self, plan: Plan, planned: PlannedSum, layout: Sequence[Tensor]) -> Mapping[str, tuple[int, ...]]:
        found = modules_of(plan, layout) if planned.kind == "gradient" else ()
        return {f"{part}/{m.name}": (m.out, m.size) for m in found for part in ("sketch", "range")}

    def applied(
        self, plan: Plan, state: State, planned: PlannedSum, total: Values, layout: Sequence[Tensor]
    ) -> tuple[State, Mapping[str, float]]:
        """Sums and not means: a factor common to all changes no basis."""
        groups = {"gradient": ("sketch", "gradient"), "gradient-2": ("core", "core")}
        if planned.kind not in groups:
            return state, {}
        group, lane = groups[planned.kind]
        sums = {f"{group}/{m.name}": total[f"{lane}.{m.name}"].astype(np.float32) for m in modules_of(plan, layout)}
        return replace(state, basis={**state.basis, **sums}), {}


def modules_of(plan: Plan, layout: Sequence[Tensor]) -> tuple[Module, ...]:
    """Modules with room for r orthonormal vectors on both sides; the others keep their starting bases."""
    return modules(layout, plan.aggregation.sketch_size)


# An institution's half.


def omegas(plan: Plan, layout: Sequence[Tensor]) -> dict[str, Array]:
    """The public matrices of round 0 by module, float64 [in, s]."""
    return {m.name: sketching_matrix(f"{plan.seed}\0gradient\0{m.name}", (m.width, m.size)) for m in modules_of(plan, layout)}


def ranges(state: State) -> dict[str, Array]:
    """The agreed ranges by module, float64 [out, s]."""
    found = {name: values for name, values in state.basis.items() if name.startswith("range/")}
    return {name.removeprefix("range/"): values.astype(np.float64) for name, values in found.items()}


def sketch_norm(sketches: Mapping[str, NDArray[np.floating[Any]]]) -> float:
    """The Frobenius norm of one institution's sketches together; 1 where its gradient is zero."""
    return math.sqrt(sum(float(np.square(values, dtype=np.float64).sum()) for values in sketches.values())) or 1.0


def scaled(lane: str, parts: Mapping[str, NDArray[np.floating[Any]]], norm: float) -> dict[str, Array]:
    """One institution's sketches or cores by lane, float64, over its `sketch_norm`."""
    return {f"{lane}.{name}": np.asarray(values, np.float64) / norm for name, values in parts.items()}


# Everyone's half.


def propose_bases(plan: Plan, layout: Sequence[Tensor], state: State) -> Proposal:
    """B = Q U_r and A = V_r^T of Z = U S V^T, for every module."""
    proposed: Proposal = {}
    for module in modules_of(plan, layout):
        q, z = _sums(state, module)
        u, _, v = np.linalg.svd(z, full_matrices=False)
        proposed[f"tensors/{module.a}"] = v[: module.rank].astype(np.float32)
        proposed[f"tensors/{module.b}"] = (q @ u[:, : module.rank]).astype(np.float32)
    return proposed


def check_bases(plan: Plan, layout: Sequence[Tensor], state: State, proposed: Tensors) -> None:
    """Whether bases are orthonormal and hold as much of the sketched gradient as any of rank r.

    Raises:
        ProposalError: other arrays, or a figure above 1e-6: of orthonormality by element, or the energy ||B^T Q Z A^T||^2 that is
            missing to the top r singular values', relative to ||Z||^2.
    """
    found = modules_of(plan, layout)
    check_names(proposed, [f"tensors/{name}" for module in found for name in (module.a, module.b)])
    for module in found:
        a = checked_array(proposed, f"tensors/{module.a}", (module.rank, module.width)).astype(np.float64)
        b = checked_array(proposed, f"tensors/{module.b}", (module.out, module.rank)).astype(np.float64)
        check_figure(module.a, "the orthonormality of its rows", orthonormality(a), TOLERANCE)
        check_figure(module.b, "the orthonormality of its columns", orthonormality(b.T), TOLERANCE)
        q, z = _sums(state, module)
        energies = np.linalg.eigvalsh(z @ z.T)  # ascending
        missing = energies[-module.rank :].sum() - np.square((b.T @ q) @ (z @ a.T)).sum()
        check_figure(module.name, "the gradient's leading singular vectors", float(missing), TOLERANCE * float(energies.sum()))


def adopt_bases(state: State, proposed: Tensors) -> State:
    """The state of the first round: the sketches have served."""
    return replace(with_arrays(state, proposed), basis={})


def _sums(state: State, module: Module) -> tuple[Array, Array]:
    q, z = (state.basis[f"{part}/{module.name}"] for part in ("range", "core"))
    return q.astype(np.float64), z.astype(np.float64)
