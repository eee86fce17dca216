"""Re-balancing of LoRA factors: B'A' = BA with orthonormal rows of A', as a proposal that institutions check (PROTOCOL, section 4).

With B = Qb Rb, A^T = Qa Ra and Rb Ra^T = U S V^T, A' = V^T Qa^T (FedSVD, Lee et al. 2025): the gradient's norm no longer
depends on A's scale, and the leading slices are the best approximation of lower rank. An SVD differs between machines in its last
bits and its signs, so the coordinator's bytes are adopted by everyone who finds that they hold.

All arithmetic is float64 on float32 tensors. A' is rounded first and everything else follows from it: with N = A A'^T, so that
A = N A', B' = B N and the velocities (displacements of A and B) become N^-1 v_A and v_B N. Second moments of adam and yogi, whose
elements are taken as uncorrelated, turn with the squares of these elements: (N^-1 o N^-1) v_A and v_B (N o N). Rounding to
float32 then moves a product by at most about 2^-23 of its Frobenius norm, because the rows of A' are orthonormal; 1e-6 holds
whatever the factors' condition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.aggregation.base import Tensor
from protocols.aggregation.products import difference_norm, orthonormality, product_norm
from protocols.errors import RebalanceError
from protocols.plan import Plan
from protocols.schedule import PlannedSum
from protocols.state import State, Tensors

TOLERANCE = 1e-6
WORST_CONDITION = 1e6  # of N; beyond it the velocity of A could not be turned and turned back

_GROUPS = ("tensors", "momentum", "second_moments")

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Pair:
    """A module's factors A [r, in] and B [out, r] with their moments, where they have any; float64."""

    a: Array
    b: Array
    moments: tuple[Array | None, ...]  # of A and B: velocities, then second moments


def is_due(plan: Plan, planned: PlannedSum) -> bool:
    """Whether a proposal may follow this sum.

    After every `rebalance_every`-th A-round of `alternating`, which are the even ones, and after every one where ranks differ:
    whoever holds the leading slices alone then holds the best ones. With batches, once the last of them has trained A.
    After every update of `fedsvd`.
    """
    if planned.kind != "update" or plan.aggregation.rule not in ("alternating", "fedsvd"):
        return False
    if plan.aggregation.rule == "fedsvd":
        return True
    every = plan.aggregation.rebalance_every or int(plan.trainable.ranks == "nested")
    return every > 0 and planned.round % (2 * every * plan.participation.batches) == 0


def propose(state: State, layout: Sequence[Tensor]) -> dict[str, NDArray[np.float32]]:
    """New factors and moments of every pair for which `check` holds; pairs without room for orthonormal rows are left out."""
    proposed: dict[str, NDArray[np.float32]] = {}
    for names in _pairs(layout):
        before = _pair_of(_arrays(state), names)
        after = _rebalanced(before)
        if after is not None and not any(_faults(before, after, names)):
            proposed |= _named(after, names)
    return proposed


def check(before: State, proposed: Tensors, layout: Sequence[Tensor]) -> None:
    """Whether a proposal changes the coordinates of some pairs and nothing else; a pair that it leaves out stays as it is.

    Raises:
        RebalanceError: a tensor that is no pair's or is missing from one, or a figure above 1e-6: of A' A'^T - I by element, of
            A, the product BA and each moment by Frobenius norm, relative to what must be kept.
    """
    arrays, left = _arrays(before), dict(proposed)
    for names in _pairs(layout):
        expected = [key for key in _keys(names) if key in arrays]
        given = {key: left.pop(key) for key in expected if key in left}
        if not given:
            continue
        for key in expected:
            _check_form(key, given.get(key), arrays[key])
        for name, what, figure in _faults(_pair_of(arrays, names), _pair_of(given, names), names):
            raise RebalanceError(f"the proposal for {name} changes {what} by {figure:.2g}, and {TOLERANCE:g} is allowed")
    if left:
        raise RebalanceError(f"the proposal holds {min(left)}, which belongs to no pair of LoRA factors")


def _rebalanced(before: _Pair) -> _Pair | None:
    rank, width = before.a.shape
    if rank > width:
        return None
    q_a, r_a = np.linalg.qr(before.a.T)
    _, _, v = np.linalg.svd(np.linalg.qr(before.b)[1] @ r_a.T)
    a = _rounded(v @ q_a.T)
    turn = before.a @ a.T
    if np.linalg.cond(turn) > WORST_CONDITION:
        return None
    moments = tuple(None if moment is None else _rounded(moment) for moment in _turned(before, turn))
    return _Pair(a, _rounded(before.b @ turn), moments)


def _turned(before: _Pair, turn: Array) -> tuple[Array | None, ...]:
    """Moments in the new coordinates."""
    back = np.linalg.inv(turn)
    maps: tuple[Callable[[Array], Array], ...] = (
        lambda velocity_a: back @ velocity_a,
        lambda velocity_b: velocity_b @ turn,
        lambda second_a: np.square(back) @ second_a,
        lambda second_b: second_b @ np.square(turn),
    )
    return tuple(None if moment is None else turned(moment) for turned, moment in zip(maps, before.moments, strict=True))


def _faults(before: _Pair, after: _Pair, names: tuple[str, str]) -> Iterator[tuple[str, str, float]]:
    """Tensor, property and figure of everything that does not hold, the factors before the moments that turn with them."""
    name_a, name_b = names
    turn = before.a @ after.a.T
    yield from _above(name_a, "the orthonormality of its rows", orthonormality(after.a))
    yield from _above(name_a, "the space of its rows", _relative(turn @ after.a, before.a))
    yield from _above(name_b, "the product BA", _product_change(before, after))
    try:
        expected = _turned(before, turn)
    except np.linalg.LinAlgError:
        yield name_a, "the rank of its rows", np.inf
        return
    for (name, what), wanted, given in zip(_moments(names), expected, after.moments, strict=True):
        if wanted is not None and given is not None:
            yield from _above(name, f"its {what}, which turns with its factors,", _relative(given, wanted))


def _moments(names: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """Tensor and kind of each moment, in their order within a pair."""
    for what in ("velocity", "second moment"):
        yield from ((name, what) for name in names)


def _above(name: str, what: str, figure: float) -> Iterator[tuple[str, str, float]]:
    if not figure <= TOLERANCE:
        yield name, what, figure


def _relative(values: Array, wanted: Array) -> float:
    """Frobenius norm of the difference, relative to what is wanted; nothing but zeros may stand for zeros."""
    return _ratio(float(np.linalg.norm(values - wanted)), float(np.linalg.norm(wanted)))


def _product_change(before: _Pair, after: _Pair) -> float:
    """||B'A' - BA|| / ||BA||, Frobenius."""
    return _ratio(difference_norm((after.b, after.a), (before.b, before.a)), product_norm(before.b, before.a))


def _ratio(difference: float, norm: float) -> float:
    if difference == 0.0:
        return 0.0
    return difference / norm if norm > 0.0 else np.inf


def _check_form(key: str, given: NDArray[np.float32] | None, before: NDArray[np.float32]) -> None:
    if given is None:
        raise RebalanceError(f"the proposal lacks {key}, which turns with the rest of its pair")
    if given.dtype != np.float32 or given.shape != before.shape or not np.isfinite(given).all():
        raise RebalanceError(f"the proposal's {key} must hold finite float32 values of shape {before.shape}")


def _pairs(layout: Sequence[Tensor]) -> Iterator[tuple[str, str]]:
    """Names of A and B of every module that LoRA adapts."""
    for tensor in layout:
        if tensor.kind == "lora_A":
            yield tensor.name, ".lora_B.".join(tensor.name.rsplit(".lora_A.", 1))


def _keys(names: tuple[str, str]) -> tuple[str, ...]:
    return tuple(f"{group}/{name}" for group in _GROUPS for name in names)


def _arrays(state: State) -> dict[str, NDArray[np.float32]]:
    return {f"{group}/{name}": values for group in _GROUPS for name, values in state.group(group).items()}


def _pair_of(arrays: Tensors, names: tuple[str, str]) -> _Pair:
    a, b, *moments = _keys(names)
    known = tuple(arrays[key].astype(np.float64) if key in arrays else None for key in moments)
    return _Pair(arrays[a].astype(np.float64), arrays[b].astype(np.float64), known)


def _named(pair: _Pair, names: tuple[str, str]) -> dict[str, NDArray[np.float32]]:
    values = zip(_keys(names), (pair.a, pair.b, *pair.moments), strict=True)
    return {key: array.astype(np.float32) for key, array in values if array is not None}


def _rounded(values: Array) -> Array:
    """To float32, as it is published and stored."""
    return values.astype(np.float32).astype(np.float64)
