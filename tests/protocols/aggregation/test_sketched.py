"""The mean product by two sums of sketches: exact where the sketch is wide enough, measured where not, refused where it is worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.layout import AdapterTensor
from protocols.aggregation import sketched
from protocols.aggregation.bounds import largest_norm
from protocols.aggregation.sketches import Module
from protocols.encoding import decode, encode
from protocols.errors import PlanError, ProposalError
from protocols.parts import Survivors
from protocols.plan import Plan
from protocols.schedule import PlannedSum, largest_step
from protocols.state import State, with_arrays
from protocols.terms import Terms
from tests.protocols.test_rounds_rules import make_plan

A, B = "h.lora_A.weight", "h.lora_B.weight"
UPDATE, SECOND = PlannedSum(1, "update", False), PlannedSum(1, "update-2", False)
Draw = np.random.Generator
Factors = dict[str, NDArray[np.float32]]


class Shapes:
    """One module, and a tensor that is trained in full."""

    expert_counts: dict[int, int] = {}  # noqa: RUF012 (read alone)
    mtp_modules = 0

    def __init__(self, rank: int, out: int, width: int) -> None:
        self.rank, self.out, self.width = rank, out, width

    def layout(self, experts: object) -> tuple[AdapterTensor, ...]:
        pair = (AdapterTensor(A, (self.rank, self.width), "lora_A"), AdapterTensor(B, (self.out, self.rank), "lora_B"))
        return (*pair, AdapterTensor("n.weight", (3,), "full"))

    def initial(self, experts: object, keep: object = None) -> Factors:
        draw = np.random.Generator(np.random.Philox(key=99))
        start = {A: draw.normal(size=(self.rank, self.width)), B: 0.1 * draw.normal(size=(self.out, self.rank)), "n.weight": np.ones(3)}
        return {name: values.astype(np.float32) for name, values in start.items()}


def terms_of(rank: int = 4, out: int = 40, width: int = 30, size: int = 0, rate: float = 0.05) -> Terms:
    training = {"learning_rate": rate, "schedule": "constant", "local_steps": 5}
    trainable = {"experts": "none", "lora_rank": rank}
    plan = make_plan(trainable=trainable, training=training, aggregation={"rule": "sketched", "sketch_size": size})
    return Terms(plan, Shapes(rank, out, width))


def step_of(plan: Plan) -> float:
    return largest_step(plan.training, plan.training.learning_rate)


def deltas(terms: Terms, institutions: int, drift: float, seed: int = 0) -> list[Factors]:
    """What institutions' trainings add, in `drift` of the largest step."""
    draw, step = np.random.Generator(np.random.Philox(key=seed)), drift * step_of(terms.plan)
    shapes = {tensor.name: tensor.shape for tensor in terms.adaptation.layout({})}
    return [{n: draw.uniform(-step, step, shape).astype(np.float32) for n, shape in shapes.items()} for _ in range(institutions)]


def module_of(terms: Terms) -> Module:
    (module,) = sketched.modules_of(terms.plan, terms.adaptation.layout({}))
    return module


def summed(terms: Terms, state: State, planned: PlannedSum, parts: Sequence[dict[str, NDArray[np.float64]]]) -> State:
    """The state after a sum of these lanes, quantised as they travel."""
    lanes, draw = terms.lanes(state, planned), np.random.default_rng(5)
    total = np.zeros(lanes.size, np.uint32)
    for part in parts:
        filled = {block.name: part.get(block.name, np.zeros(block.shape)) for block in lanes.blocks}
        total += encode(filled, lanes, len(parts), draw)
    members = tuple(f"i{number}" for number in range(len(parts)))
    return terms.apply(state, planned, decode(total, lanes, len(parts)), Survivors(members, len(parts), 1), len(parts))[0]


def first_sum(terms: Terms, trained: Sequence[Factors], weights: Sequence[float]) -> tuple[State, list[Factors]]:
    start, module = terms.start(), module_of(terms)
    factors = [sketched.trained_factors([module], start.tensors, delta, step_of(terms.plan)) for delta in trained]
    parts = []
    for delta, one, weight in zip(trained, factors, weights, strict=True):
        lanes = {f"delta.{name}": weight * values.astype(np.float64) for name, values in delta.items()}
        parts.append(lanes | {"weight": np.array([weight])} | sketched.sketches(terms.plan, [module], 1, one, weight))
    return summed(terms, start, UPDATE, parts), factors


def second_sum(terms: Terms, state: State, factors: Sequence[Factors], weights: Sequence[float]) -> State:
    """After both sums, before the factors are proposed."""
    state = terms.adopt(state, UPDATE, terms.propose(state, UPDATE))
    pairs = zip(factors, weights, strict=True)
    cores = [sketched.cores([module_of(terms)], state.basis, one, w) | {"weight": np.array([w])} for one, w in pairs]
    return summed(terms, state, SECOND, cores)


def played(terms: Terms, trained: Sequence[Factors], weights: Sequence[float] = ()) -> tuple[State, NDArray[np.float64]]:
    """The state before the factors' proposal, and the exact mean product."""
    weights = weights or [1.0] * len(trained)
    after, factors = first_sum(terms, trained, weights)
    exact = sum(w * one[B].astype(np.float64) @ one[A].astype(np.float64) for w, one in zip(weights, factors, strict=True))
    return second_sum(terms, after, factors, weights), np.asarray(exact / sum(weights))


def product(state: State) -> NDArray[np.float64]:
    return np.asarray(state.tensors[B].astype(np.float64) @ state.tensors[A].astype(np.float64))


def relative(values: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(values - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize(("rank", "institutions"), [(4, 3), (6, 4), (8, 3)])
def test_sketch_that_is_wide_enough_holds_the_mean_product(rank: int, institutions: int) -> None:
    """And the factors are its best approximation of their rank; weights count."""
    terms = terms_of(rank, 50, 60, size=rank * institutions + 8)
    state, exact = played(terms, deltas(terms, institutions, 0.9), [1.0, 0.25, 0.5, 0.75][:institutions])
    assert relative(state.basis["range/h"].astype(np.float64) @ state.basis["core/h"], exact) < 2e-5
    after = terms.adopt(state, SECOND, terms.propose(state, SECOND))
    u, s, v = np.linalg.svd(exact)
    assert relative(product(after), (u[:, :rank] * s[:rank]) @ v[:rank]) < 1e-4
    assert not after.basis and after.pre_round is None and after.round == 1
    assert np.abs(after.tensors[A].astype(np.float64) @ after.tensors[A].T - np.eye(rank)).max() < 1e-6


def test_certificate_is_unbiased_for_a_sketch_that_is_too_narrow() -> None:
    """Over many draws of Omega its mean is the mean error, and so is that of plain averaging."""
    ratios = []
    for seed in range(60):
        terms = terms_of(4, 40, 30, size=6)
        terms = replace(terms, plan=terms.plan.model_copy(update={"seed": seed}))
        state, exact = played(terms, deltas(terms, 4, 0.9, seed))
        found = sketched.errors(terms.plan, state, module_of(terms))
        projected = state.basis["range/h"].astype(np.float64) @ state.basis["core/h"]
        true = [float(np.square(left).sum()) for left in (exact - projected, exact - product(state), exact)]
        ratios.append(np.array([found.outside, found.plain, found.norm]) / true)
    spread = np.std(ratios, axis=0) / np.sqrt(len(ratios))
    assert (np.abs(np.mean(ratios, axis=0) - 1.0) < 4 * spread).all() and (spread < 0.05).all()


def test_factors_are_replaced_where_the_sketch_is_closer_and_only_there() -> None:
    """Institutions that drift far apart lose by averaging factors; where they hardly move, a cut sketch loses more."""
    for terms, replaced in ((terms_of(size=4, rate=1e-4), False), (terms_of(rate=0.5), True)):
        state, exact = played(terms, deltas(terms, 3, 0.9))
        proposal = terms.propose(state, SECOND)
        assert bool(proposal) is replaced
        after = terms.adopt(state, SECOND, proposal)
        assert not after.basis and (relative(product(after), exact) < relative(product(state), exact)) is replaced
        figures = sketched.figures(terms.plan, terms.adaptation.layout({}), state)
        assert figures["sketched_modules"] == 1 and figures["replaced_modules"] == replaced
        assert figures["plain_error"] == pytest.approx(relative(product(state), exact), rel=1.0)


def ranged(change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Callable[[Factors], Factors]:
    return lambda proposed: {name: change(values.copy()) for name, values in proposed.items()}


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        (lambda proposed: {}, "lacks basis/range/h"),
        (lambda proposed: {**proposed, f"tensors/{A}": np.zeros((4, 30), np.float32)}, f"holds tensors/{A}"),
        (ranged(lambda q: q[:, :-1]), "must hold finite float32 values"),
        (ranged(lambda q: q * np.float32(2)), "misses the orthonormality of its columns"),
        (ranged(lambda q: np.eye(*q.shape, dtype=np.float32)), "misses the sketch's span"),
    ],
)
def test_range_that_does_not_hold_is_refused(lie: Callable[[Factors], Factors], sentence: str) -> None:
    terms = terms_of()
    state, _ = first_sum(terms, deltas(terms, 3, 0.9), [1.0] * 3)
    with pytest.raises(ProposalError, match=sentence):
        terms.adopt(state, UPDATE, lie(dict(terms.propose(state, UPDATE))))


def rotated(proposed: Factors) -> Factors:
    """Orthonormal rows that are not the leading ones."""
    a = np.eye(4, 30, dtype=np.float32)
    return {**proposed, f"tensors/{A}": a}


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        (lambda proposed: {}, "leaves out h, where the sketch is closer"),
        (lambda proposed: {f"tensors/{A}": proposed[f"tensors/{A}"]}, f"lacks tensors/{B}"),
        (lambda proposed: {**proposed, f"tensors/{B}": proposed[f"tensors/{B}"] * np.float32(1.01)}, "misses the sketched product"),
        (lambda proposed: {name: values * np.float32(2) for name, values in proposed.items()}, "misses the orthonormality"),
        (rotated, "misses the sketched product"),
        (lambda proposed: {**proposed, "tensors/n.weight": np.ones(3, np.float32)}, "holds tensors/n.weight"),
    ],
)
def test_factors_that_do_not_hold_are_refused(lie: Callable[[Factors], Factors], sentence: str) -> None:
    terms = terms_of(rate=0.5)
    state, _ = played(terms, deltas(terms, 3, 0.9))
    with pytest.raises(ProposalError, match=sentence):
        terms.adopt(state, SECOND, lie(dict(terms.propose(state, SECOND))))


def test_factors_of_a_worse_sketch_are_refused() -> None:
    terms = terms_of(size=4, rate=1e-4)
    state, _ = played(terms, deltas(terms, 3, 0.9))
    q, z = (state.basis[f"{part}/h"].astype(np.float64) for part in ("range", "core"))
    a = np.linalg.svd(z, full_matrices=False)[2][:4].astype(np.float32)
    proposed = {f"tensors/{A}": a, f"tensors/{B}": (q @ (z @ a.T.astype(np.float64))).astype(np.float32)}
    with pytest.raises(ProposalError, match="which the mean factors are closer to"):
        terms.adopt(state, SECOND, proposed)


def test_sum_without_weight_changes_nothing_and_proposes_nothing() -> None:
    terms = terms_of()
    state, exact = first_sum(terms, deltas(terms, 3, 0.9), [0.0] * 3)
    assert not state.basis and not terms.propose(state, UPDATE)
    assert [block.name for block in terms.lanes(state, SECOND).blocks] == ["weight"]
    state = summed(terms, state, SECOND, [{"weight": np.zeros(1)}] * 3)
    assert terms.adopt(state, SECOND, {}).tensors[B].tobytes() == terms.start().tensors[B].tobytes() and exact


@given(st.integers(1, 4), st.integers(1, 12), st.integers(1, 27), st.integers(0, 2**32), st.floats(1e-6, 10.0), st.floats(-1.0, 1.0))
def test_no_institution_is_above_a_lane(rank: int, out: int, width: int, seed: int, rate: float, weight: float) -> None:
    """Up to 27 inputs no element is clipped at all, whichever way an institution goes; the second sum starts from any mean."""
    terms = terms_of(rank, out, width, rate=rate)
    draw, start, step = np.random.Generator(np.random.Philox(key=seed)), terms.start(), step_of(terms.plan)
    found = sketched.modules_of(terms.plan, terms.adaptation.layout({}))
    steps = np.array([-2.0, -1.0, 1.0, 2.0], np.float32) * np.float32(step)
    trained = [{name: draw.choice(steps, values.shape) for name, values in start.tensors.items()} for _ in range(2)]
    factors = [sketched.trained_factors(found, start.tensors, delta, step) for delta in trained]
    after = with_arrays(start, {f"tensors/{name}": values for name, values in (factors[1]).items()})
    ranges = {f"range/{m.name}": np.linalg.qr(draw.normal(size=(m.out, m.size)))[0].astype(np.float32) for m in found}
    after = replace(after, basis=ranges)
    sent = {UPDATE: sketched.sketches(terms.plan, found, 1, factors[0], weight), SECOND: sketched.cores(found, ranges, factors[0], weight)}
    for planned, state in ((UPDATE, start), (SECOND, after)):
        bounds = {block.name: block.bound for block in terms.lanes(state, planned).blocks}
        for name, values in sent[planned].items():
            assert np.abs(values).max() <= bounds[name] * (1 + 1e-6)


def test_wide_modules_are_beyond_their_bound_practically_never() -> None:
    terms = terms_of(4, 30, 400)
    module, start, step = module_of(terms), terms.start(), step_of(terms.plan)
    for delta in deltas(terms, 20, 1.0):
        values = sketched.sketches(terms.plan, [module], 1, sketched.trained_factors([module], start.tensors, delta, step), 1.0)
        assert np.abs(values["sketch.h"]).max() < 0.7 * sketched.sketch_bound(module, start.tensors, step)


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 9), st.floats(1e-30, 1e30))
def test_norms_of_bounds_are_above_and_do_not_depend_on_order(seed: int, rows: int, columns: int, scale: float) -> None:
    values = (np.random.Generator(np.random.Philox(key=seed)).normal(size=(rows, columns)) * scale).astype(np.float32)
    for axis in (None, 0, 1):
        exact = float(np.linalg.norm(values.astype(np.float64), axis=axis).max())
        norm = largest_norm(values, axis)
        assert exact * (1 - 1e-12) <= norm <= exact + 1e-3 * float(np.abs(values).max(initial=0.0))
        assert norm == largest_norm(values[::-1, ::-1], axis)


def test_server_optimiser_does_not_go_with_it() -> None:
    with pytest.raises(PlanError, match="takes the mean product as it is"):
        make_plan(trainable={"experts": "none"}, aggregation={"rule": "sketched", "server_optimizer": "adam"})
