"""Re-balancing of LoRA factors: what is proposed holds to 1e-6 in float32, and what does not hold is refused by name and figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.layout import AdapterTensor
from protocols.aggregation.rebalance import check, is_due, propose
from protocols.errors import PlanError, RebalanceError
from protocols.plan import parse_plan
from protocols.schedule import planned_sums
from protocols.state import State, with_arrays
from tests.protocols.test_rounds_rules import make_plan

A, B = "h.lora_A.weight", "h.lora_B.weight"
Proposed = dict[str, NDArray[np.float32]]


def layout(rank: int, wide: int, tall: int) -> tuple[AdapterTensor, ...]:
    return (AdapterTensor(A, (rank, wide), "lora_A"), AdapterTensor(B, (tall, rank), "lora_B"), AdapterTensor("n.weight", (3,), "full"))


def state_of(rank: int, wide: int, tall: int, seed: int = 0, scale: float = 1.0, momentum: bool = True) -> State:
    """Factors of uneven scale, as training leaves them."""
    draw = np.random.Generator(np.random.Philox(key=seed))
    uneven = np.logspace(0, -3, rank)

    def factors() -> Proposed:
        a, b = draw.normal(size=(rank, wide)) * uneven[:, None], draw.normal(size=(tall, rank)) * scale
        return {A: a.astype(np.float32), B: b.astype(np.float32)}

    full = {"n.weight": np.ones(3, np.float32)}
    return State("ab" * 32, 2, factors() | full, {}, factors() | full if momentum else {})


def product(state: State) -> NDArray[np.float64]:
    return np.asarray(state.tensors[B].astype(np.float64) @ state.tensors[A].astype(np.float64))


@given(st.integers(1, 8), st.integers(0, 12), st.integers(1, 20), st.integers(0, 2**32), st.sampled_from([1e-6, 1.0, 1e6]), st.booleans())
def test_proposal_keeps_the_product_and_passes_the_check(rank: int, more: int, tall: int, seed: int, scale: float, momentum: bool) -> None:
    before, shapes = state_of(rank, rank + more, tall, seed, scale, momentum), layout(rank, rank + more, tall)
    proposed = propose(before, shapes)
    if not proposed:
        assert more == 0 and np.linalg.cond(before.tensors[A]) > 1e5, "only a square A can be all but singular"
        return
    check(before, proposed, shapes)
    after = with_arrays(before, proposed)
    norm = np.linalg.norm(product(before))
    assert np.linalg.norm(product(after) - product(before)) <= 1e-6 * norm
    assert np.abs(after.tensors[A].astype(np.float64) @ after.tensors[A].T - np.eye(rank)).max() <= 1e-6
    assert after.tensors["n.weight"] is before.tensors["n.weight"] and after.round == before.round
    assert proposed.keys() == {f"{group}/{name}" for group in ("tensors", "momentum")[: 1 + momentum] for name in (A, B)}


def test_leading_slices_are_the_best_approximation_of_lower_rank() -> None:
    before = state_of(6, 20, 30)
    after = with_arrays(before, propose(before, layout(6, 20, 30)))
    kept = after.tensors[B][:, :2].astype(np.float64) @ after.tensors[A][:2]
    singular = np.linalg.svd(product(before), compute_uv=False)
    assert np.linalg.norm(product(before) - kept) == pytest.approx(np.linalg.norm(singular[2:]), rel=1e-5)


def test_momentum_moves_the_product_as_it_did() -> None:
    """A step along both velocities leads to the same product before and after."""
    before = state_of(4, 20, 30)
    after = with_arrays(before, propose(before, layout(4, 20, 30)))

    def stepped(state: State) -> NDArray[np.float64]:
        return product(replace(state, tensors={name: state.tensors[name] + 0.5 * state.momentum[name] for name in (A, B)}))

    np.testing.assert_allclose(stepped(after), stepped(before), atol=2e-5)


def with_second_moments(state: State) -> State:
    draw = np.random.Generator(np.random.Philox(key=8))
    drawn = {name: draw.normal(size=state.tensors[name].shape) for name in (A, B)}
    return replace(state, second_moments={name: np.square(values).astype(np.float32) for name, values in drawn.items()})


def test_second_moments_turn_as_those_of_uncorrelated_elements() -> None:
    """What they say of a displacement in the new coordinates is what draws with the old ones show."""
    before = with_second_moments(state_of(3, 12, 9))
    after = with_arrays(before, propose(before, layout(3, 12, 9)))
    turn = before.tensors[A].astype(np.float64) @ after.tensors[A].T
    draw = np.random.Generator(np.random.Philox(key=2))
    of_b = draw.normal(size=(20_000, 9, 3)) * np.sqrt(before.second_moments[B])
    np.testing.assert_allclose(np.square(of_b @ turn).mean(0), after.second_moments[B], rtol=0.1)
    of_a = draw.normal(size=(20_000, 3, 12)) * np.sqrt(before.second_moments[A])
    np.testing.assert_allclose(np.square(np.linalg.inv(turn) @ of_a).mean(0), after.second_moments[A], rtol=0.1)


def test_second_moments_that_were_not_turned_are_refused() -> None:
    before, shapes = with_second_moments(state_of(4, 10, 12)), layout(4, 10, 12)
    proposed = propose(before, shapes)
    check(before, proposed, shapes)
    for name in (A, B):
        with pytest.raises(RebalanceError, match=f"for {name} changes its second moment"):
            check(before, {**proposed, f"second_moments/{name}": before.second_moments[name]}, shapes)
    with pytest.raises(RebalanceError, match=f"lacks second_moments/{B}"):
        check(before, {key: values for key, values in proposed.items() if key != f"second_moments/{B}"}, shapes)


def test_pair_that_starts_at_zero_is_balanced_too() -> None:
    before = state_of(3, 9, 5, scale=0.0)
    proposed = propose(before, layout(3, 9, 5))
    assert not proposed[f"tensors/{B}"].any()
    check(before, proposed, layout(3, 9, 5))


def test_pair_without_room_for_orthonormal_rows_is_left_as_it_is() -> None:
    before = state_of(5, 3, 4)
    assert propose(before, layout(5, 3, 4)) == {}
    singular = replace(before, tensors={**before.tensors, A: np.ones((2, 6), np.float32), B: np.ones((4, 2), np.float32)}, momentum={})
    assert propose(singular, layout(2, 6, 4)) == {}
    check(before, {}, layout(5, 3, 4))


def changed(name: str, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Callable[[Proposed], Proposed]:
    return lambda proposed: {**proposed, name: change(proposed[name].copy())}


def one_entry(values: NDArray[np.float32]) -> NDArray[np.float32]:
    values[1, 2] += np.float32(1e-3)
    return values


def doubled(proposed: Proposed) -> Proposed:
    """The same product from factors of another scale."""
    two = np.float32(2)
    return {f"tensors/{A}": proposed[f"tensors/{A}"] * two, f"tensors/{B}": proposed[f"tensors/{B}"] / two}


def another_space(proposed: Proposed) -> Proposed:
    """With B at zero the product cannot tell; the rows must still be those of A."""
    a = np.zeros_like(proposed[f"tensors/{A}"])
    a[np.arange(len(a)), np.arange(len(a))] = 1.0
    return {**proposed, f"tensors/{A}": a}


LIES: dict[str, tuple[Callable[[Proposed], Proposed], str]] = {
    "product": (changed(f"tensors/{B}", one_entry), f"for {B} changes the product BA by"),
    "orthonormal": (changed(f"tensors/{A}", one_entry), f"for {A} changes the orthonormality of its rows by"),
    "scaled": (lambda p: {**p, **doubled(p)}, "the orthonormality of its rows by 3"),
    "space": (another_space, f"for {A} changes the space of its rows by"),
    "momentum A": (changed(f"momentum/{A}", one_entry), f"for {A} changes its velocity"),
    "momentum B": (changed(f"momentum/{B}", one_entry), f"for {B} changes its velocity"),
    "extra": (lambda p: {**p, "tensors/n.weight": np.zeros(3, np.float32)}, "holds tensors/n.weight, which belongs to no pair"),
    "unknown": (lambda p: {**p, "elsewhere": np.zeros(3, np.float32)}, "holds elsewhere, which belongs to no pair"),
    "missing": (lambda p: {key: values for key, values in p.items() if key != f"momentum/{A}"}, f"lacks momentum/{A}"),
    "shape": (changed(f"tensors/{B}", lambda v: v[:-1]), f"{'tensors/' + B} must hold finite float32 values of shape"),
    "type": (changed(f"tensors/{B}", lambda v: v.astype(np.float64)), "must hold finite float32 values"),
    "not finite": (changed(f"tensors/{A}", lambda v: v * np.float32(np.nan)), "must hold finite float32 values"),
}


@pytest.mark.parametrize("lie", LIES)
def test_proposal_that_changes_more_than_coordinates_is_refused(lie: str) -> None:
    before, shapes, (alter, sentence) = state_of(4, 10, 12, scale=0.0 if lie == "space" else 1.0), layout(4, 10, 12), LIES[lie]
    with pytest.raises(RebalanceError) as raised:
        check(before, alter(propose(before, shapes)), shapes)
    assert sentence in str(raised.value)


def test_momentum_of_the_unbalanced_factors_is_refused() -> None:
    before, shapes = state_of(4, 10, 12), layout(4, 10, 12)
    stale = {f"momentum/{name}": before.momentum[name] for name in (A, B)}
    with pytest.raises(RebalanceError, match="its velocity"):
        check(before, {**propose(before, shapes), **stale}, shapes)


def test_proposals_are_due_after_every_so_many_rounds_that_trained_a() -> None:
    plan = make_plan(rounds=8, trainable={"experts": "none"}, aggregation={"rebalance_every": 2})
    assert [(p.round, p.kind) for p in planned_sums(plan) if is_due(plan, p)] == [(4, "update"), (8, "update")]
    assert not any(is_due(make_plan(), p) for p in planned_sums(make_plan(rounds=8)))
    with pytest.raises(PlanError, match='rebalance_every needs rule = "alternating"'):
        parse_plan({**plan.model_dump(by_alias=True), "aggregation": {"rule": "fedavg", "rebalance_every": 1}}, "plan")
