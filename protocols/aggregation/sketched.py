"""Both LoRA factors trained, and the mean of the products B_k A_k found by two secure sums (FedASK, arXiv:2507.09990, algorithm 1).

1. Y = mean of B_k (A_k Omega) with a public Omega [in, s + 8]; Q [out, s] is an orthonormal basis of its first s columns.
2. Z = mean of (Q^T B_k) A_k [s, in]; the mean product X is Q Z where s is not below its rank, and its best rank-r factors follow by
   an SVD of Z. A' has orthonormal rows, as after a re-balancing.

Certificate: the last 8 columns of Y are held out, so that their part outside Q estimates ||X - QZ||^2 without bias, and their
difference to B A Omega that of plain averaging, ||X - BA||^2, with the same probes. What is cut off Z is known, and orthogonal to
the former. A module whose mean factors are closer to X than the sketch keeps them; so do routed experts and what is trained in
full. LoRA's scale is common to all products, and plays no part.

Y, Z and the mean factors are opened, and they are sums. Z continues Y over exactly its set (`protocols.continued`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from protocols.aggregation.base import Tensor, Values
from protocols.aggregation.bounds import largest_norm
from protocols.aggregation.fedavg import FedAvg
from protocols.aggregation.products import difference_norm, orthonormality, product_norm
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
from protocols.errors import ProposalError
from protocols.plan import Plan
from protocols.schedule import PlannedSum, largest_step, learning_rate
from protocols.state import State, Tensors, with_arrays

PROBES = 8
DEVIATIONS = 9.0  # an element of a product with Omega is beyond as many standard deviations with probability 2 exp(-9^2 / 2)
_SLACK = 1e-12  # of a squared norm: machines that round differently agree on what is closer but for this


class Sketched(FedAvg):
    """Sums what fedavg sums, and the two sketches beside it."""

    def lanes(self, plan: Plan, state: State, planned: PlannedSum, layout: Sequence[Tensor]) -> tuple[Block, ...]:
        found = modules_of(plan, layout)
        if planned.kind == "update":
            step = largest_step(plan.training, learning_rate(plan, planned.round))
            shapes = {m.name: (m.out, m.size + PROBES) for m in found}
            return tuple(Block(f"sketch.{m.name}", shapes[m.name], sketch_bound(m, state.tensors, step), False) for m in found)
        if planned.kind != "update-2":
            return ()
        step, found = largest_step(plan.training, learning_rate(plan, planned.round)), tuple(m for m in found if _has_range(state, m))
        blocks = (Block(f"core.{m.name}", (m.size, m.width), core_bound(m, state.tensors, step), False) for m in found)
        return (*blocks, Block("weight", (1,), 1.0, False))

    def basis(self, plan: Plan, planned: PlannedSum, layout: Sequence[Tensor]) -> Mapping[str, tuple[int, ...]]:
        found = modules_of(plan, layout) if planned.kind == "update" else ()
        probes = {f"probes/{m.name}": (m.out, PROBES) for m in found}
        return probes | {f"{part}/{m.name}": (m.out, m.size) for m in found for part in ("sketch", "range")}

    def applied(
        self, plan: Plan, state: State, planned: PlannedSum, total: Values, layout: Sequence[Tensor]
    ) -> tuple[State, Mapping[str, float]]:
        found, weight = modules_of(plan, layout), float(total["weight"][0])
        if weight <= 0.0:  # nobody counts: the state stays, and there is nothing to project
            return replace(state, basis={}), {}
        if planned.kind == "update":
            means = {m: (total[f"sketch.{m.name}"] / weight).astype(np.float32) for m in found}
            sketches = {f"sketch/{m.name}": y[:, : m.size] for m, y in means.items()}
            return replace(state, basis=sketches | {f"probes/{m.name}": y[:, m.size :] for m, y in means.items()}), {}
        cores = {f"core/{m.name}": (total[f"core.{m.name}"] / weight).astype(np.float32) for m in found if _has_range(state, m)}
        after = replace(state, basis={**state.basis, **cores})
        return after, figures(plan, layout, after)


def modules_of(plan: Plan, layout: Sequence[Tensor]) -> tuple[Module, ...]:
    """What is sketched: modules outside routed experts whose rank fits the sketch."""
    return modules(layout, plan.aggregation.sketch_size)


# An institution's half.


def trained_factors(found: Sequence[Module], tensors: Tensors, delta: Tensors, step: float) -> dict[str, NDArray[np.float32]]:
    """A_k and B_k after training, float32; no element is further from the start than the largest step, which bounds follow from."""
    names = [name for module in found for name in (module.a, module.b)]
    return {name: tensors[name] + np.clip(delta[name], -np.float32(step), np.float32(step)) for name in names}


def sketches(plan: Plan, found: Sequence[Module], round_number: int, factors: Tensors, weight: float) -> dict[str, Array]:
    """weight B_k (A_k Omega), by lane."""
    return {f"sketch.{m.name}": weight * (b @ (a @ omega(plan, round_number, m))) for m, a, b in _factors(found, factors)}


def cores(found: Sequence[Module], basis: Tensors, factors: Tensors, weight: float) -> dict[str, Array]:
    """weight (Q^T B_k) A_k, by lane; of modules that have a range."""
    ranges = {m: basis[f"range/{m.name}"].astype(np.float64) for m in found if f"range/{m.name}" in basis}
    return {f"core.{m.name}": weight * ((ranges[m].T @ b) @ a) for m, a, b in _factors(tuple(ranges), factors)}


def omega(plan: Plan, round_number: int, module: Module) -> Array:
    """The round's public matrix for a module, float64 [in, s + 8]: bound to the plan's seed, the round and the module."""
    return sketching_matrix(f"{plan.seed}\0{round_number}\0{module.name}", (module.width, module.size + PROBES))


def sketch_bound(module: Module, tensors: Tensors, step: float) -> float:
    """|B_k A_k Omega| <= (largest row of B) ||A|| ||column of Omega||, each factor with the largest step added in every element.

    A column of Omega has at most the norm sqrt(3 in); in wide modules DEVIATIONS take its place, and what is beyond is clipped.
    """
    row = largest_norm(tensors[module.b], axis=1) + math.sqrt(module.rank) * step
    whole = largest_norm(tensors[module.a]) + math.sqrt(module.rank * module.width) * step
    return row * whole * min(DEVIATIONS, math.sqrt(3.0 * module.width))


def core_bound(module: Module, tensors: Tensors, step: float) -> float:
    """|Q^T B_k A_k| <= ||B_k|| (largest column of A_k). B and A are the means now, at most two steps from an institution's own."""
    whole = largest_norm(tensors[module.b]) + math.sqrt(module.out * module.rank) * 2.0 * step
    column = largest_norm(tensors[module.a], axis=0) + math.sqrt(module.rank) * 2.0 * step
    return whole * column


def _factors(found: Sequence[Module], factors: Tensors) -> list[tuple[Module, Array, Array]]:
    return [(m, factors[m.a].astype(np.float64), factors[m.b].astype(np.float64)) for m in found]


# Everyone's half.


@dataclass(frozen=True, slots=True)
class Errors:
    """Squared Frobenius norms of one module, estimated by the probes but for the tail."""

    norm: float  # of the mean product X
    outside: float  # ||X - QZ||^2: the certificate
    tail: float  # what the best rank-r approximation leaves of Z
    plain: float  # ||X - BA||^2 of the mean factors

    @property
    def sketched(self) -> float:
        """What rank-r factors from the sketch miss; the two parts are orthogonal."""
        return self.outside + self.tail

    @property
    def is_closer(self) -> bool:
        """Whether the sketch is closer to X than the mean factors are."""
        return self.sketched < self.plain

    @property
    def slack(self) -> float:
        return TOLERANCE * self.plain + _SLACK * self.norm


def errors(plan: Plan, state: State, module: Module) -> Errors:
    """What the state before the factors' proposal says of a module."""
    probes, q, z = (state.basis[f"{part}/{module.name}"].astype(np.float64) for part in ("probes", "range", "core"))
    held_out = omega(plan, state.round, module)[:, module.size :]
    a, b = state.tensors[module.a].astype(np.float64), state.tensors[module.b].astype(np.float64)
    energies = np.clip(np.linalg.eigvalsh(z @ z.T), 0.0, None)  # ascending
    outside, plain = probes - q @ (q.T @ probes), probes - b @ (a @ held_out)
    return Errors(_mean_square(probes), _mean_square(outside), float(energies[: -module.rank].sum()), _mean_square(plain))


def figures(plan: Plan, layout: Sequence[Tensor], state: State) -> dict[str, float]:
    """Relative errors over all modules together, of the sketch before it is cut to rank r and of plain averaging; modules replaced."""
    found = [errors(plan, state, module) for module in _decided(plan, layout, state)]
    norm = sum(one.norm for one in found) or 1.0
    return {
        "sketch_error": math.sqrt(sum(one.outside for one in found) / norm),
        "plain_error": math.sqrt(sum(one.plain for one in found) / norm),
        "sketched_modules": float(len(found)),
        "replaced_modules": float(sum(one.is_closer for one in found)),
    }


def propose_factors(plan: Plan, layout: Sequence[Tensor], state: State) -> Proposal:
    """Rank-r factors of Q Z with orthonormal rows of A, for exactly the modules where the sketch is closer than the mean factors."""
    proposed: Proposal = {}
    for module in _decided(plan, layout, state):
        if errors(plan, state, module).is_closer:
            q, z = (state.basis[f"{part}/{module.name}"].astype(np.float64) for part in ("range", "core"))
            a = np.linalg.svd(z, full_matrices=False)[2][: module.rank].astype(np.float32)
            b = q @ (z @ a.astype(np.float64).T)
            proposed |= {f"tensors/{module.a}": a, f"tensors/{module.b}": b.astype(np.float32)}
    return proposed


def check_factors(plan: Plan, layout: Sequence[Tensor], state: State, proposed: Tensors) -> None:
    """Whether the right modules get factors, and each the best ones.

    Raises:
        ProposalError: other arrays than those of whole modules, a module whose mean factors are closer, one left out whose sketch
            is, rows of A that are not orthonormal to 1e-6, or ||B'A' - QZ|| above the best rank-r error plus 1e-6 ||Z||.
    """
    decided = _decided(plan, layout, state)
    given = [module for module in decided if {f"tensors/{module.a}", f"tensors/{module.b}"} & proposed.keys()]
    check_names(proposed, [f"tensors/{name}" for module in given for name in (module.a, module.b)])
    for module in decided:
        found = errors(plan, state, module)
        if module in given:
            check_figure(module.name, "the mean product, which the mean factors are closer to,", found.sketched, found.plain + found.slack)
            _check_pair(module, state, found, proposed)
        elif found.sketched < found.plain - found.slack:
            raise ProposalError(f"the proposal leaves out {module.name}, where the sketch is closer than the mean factors")


def adopt_factors(state: State, proposed: Tensors) -> State:
    """The state of the next round: the sketch has served."""
    return replace(with_arrays(state, proposed), basis={})


def _check_pair(module: Module, state: State, found: Errors, proposed: Tensors) -> None:
    a = checked_array(proposed, f"tensors/{module.a}", (module.rank, module.width)).astype(np.float64)
    b = checked_array(proposed, f"tensors/{module.b}", (module.out, module.rank)).astype(np.float64)
    q, z = (state.basis[f"{part}/{module.name}"].astype(np.float64) for part in ("range", "core"))
    check_figure(module.a, "the orthonormality of its rows", orthonormality(a), TOLERANCE)
    allowed = math.sqrt(found.tail) + TOLERANCE * product_norm(q, z)
    check_figure(module.b, "the sketched product", difference_norm((b, a), (q, z)), allowed)


def _decided(plan: Plan, layout: Sequence[Tensor], state: State) -> tuple[Module, ...]:
    return tuple(module for module in modules_of(plan, layout) if f"core/{module.name}" in state.basis)


def _has_range(state: State, module: Module) -> bool:
    return f"range/{module.name}" in state.basis


def _mean_square(columns: Array) -> float:
    """Mean over columns of their squared norm."""
    return float(np.square(columns).sum() / columns.shape[1])
