"""Fed-SB: bases are the leading singular vectors of the mean gradient, found by two sums; what does not hold is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from model.layout import AdapterTensor
from protocols.aggregation import fedsb, rule_of
from protocols.encoding import decode, encode
from protocols.errors import ProposalError
from protocols.parts import Survivors
from protocols.schedule import PlannedSum, planned_sums
from protocols.state import State
from protocols.terms import Terms
from tests.protocols.test_rounds_rules import make_plan

FIRST, SECOND = PlannedSum(0, "gradient", False), PlannedSum(0, "gradient-2", True)
SHAPES = {"h": (3, 40, 30), "g": (2, 12, 50), "thin": (4, 3, 50)}  # rank, out, in; the last has no room for its rank
Factors = dict[str, NDArray[np.float32]]


class Cores:
    """Three modules with cores."""

    expert_counts: dict[int, int] = {}  # noqa: RUF012 (read alone)
    mtp_modules = 0

    def layout(self, experts: object) -> tuple[AdapterTensor, ...]:
        tensors = []
        for name, (rank, out, width) in SHAPES.items():
            tensors.append(AdapterTensor(f"{name}.lora_A.weight", (rank, width), "lora_A"))
            tensors.append(AdapterTensor(f"{name}.lora_B.weight", (out, rank), "lora_B"))
            tensors.append(AdapterTensor(f"{name}.lora_R.weight", (rank, rank), "lora_R"))
        return (*tensors, AdapterTensor("n.weight", (3,), "full"))

    def initial(self, experts: object, keep: object = None) -> Factors:
        ones = {t.name: np.ones(t.shape, np.float32) for t in self.layout(experts)}
        return {name: values * 0 if ".lora_R." in name else values for name, values in ones.items()}


TERMS = Terms(make_plan(trainable={"experts": "none"}, aggregation={"rule": "fedsb"}), Cores())


def gradients(rank: int | None, scale: float = 1.0) -> list[dict[str, NDArray[np.float64]]]:
    """Of three institutions: of one common low rank, or full of noise."""
    draw = np.random.Generator(np.random.Philox(key=3))
    common = {name: draw.normal(size=(out, rank or 1)) for name, (_, out, _) in SHAPES.items()}
    made = []
    for _ in range(3):
        low = {name: common[name] @ draw.normal(size=(rank or 1, width)) for name, (_, _, width) in SHAPES.items()}
        noise = {name: draw.normal(size=(out, width)) for name, (_, out, width) in SHAPES.items()}
        made.append({name: scale * (low[name] if rank else noise[name]) for name in SHAPES})
    return made


def summed(state: State, planned: PlannedSum, parts: list[dict[str, NDArray[np.float64]]]) -> State:
    lanes = TERMS.lanes(state, planned)
    total = np.zeros(lanes.size, np.uint32)
    for part in parts:
        total += encode(part, lanes, len(parts), np.random.default_rng(1))
    return TERMS.apply(state, planned, decode(total, lanes, len(parts)), Survivors(("a", "b", "c"), 3, 1), len(parts))[0]


def sketches_of(one: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    return {name: one[name] @ omega for name, omega in fedsb.omegas(TERMS.plan, TERMS.adaptation.layout({})).items()}


def sent(lane: str, parts: dict[str, NDArray[np.float64]], one: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    return fedsb.scaled(lane, parts, fedsb.sketch_norm(sketches_of(one)))


def after_first(made: list[dict[str, NDArray[np.float64]]]) -> State:
    state = summed(TERMS.start(), FIRST, [sent("gradient", sketches_of(one), one) for one in made])
    return TERMS.adopt(state, FIRST, TERMS.propose(state, FIRST))


def before_bases(made: list[dict[str, NDArray[np.float64]]]) -> State:
    state = after_first(made)
    bases = fedsb.ranges(state)
    return summed(state, SECOND, [sent("core", {name: q.T @ one[name] for name, q in bases.items()}, one) for one in made])


def test_bases_span_the_leading_directions_of_the_mean_gradient() -> None:
    """With gradients of rank r the bases hold all of their mean, whatever the institutions' own scales."""
    made = [{name: values * scale for name, values in one.items()} for one, scale in zip(gradients(2), (1.0, 1e6, 1e-6), strict=True)]
    state = before_bases(made)
    after = TERMS.adopt(state, SECOND, TERMS.propose(state, SECOND))
    for name in ("h", "g"):
        a, b = (after.tensors[f"{name}.lora_{factor}.weight"].astype(np.float64) for factor in "AB")
        mean = sum(one[name] / fedsb.sketch_norm(sketches_of(one)) for one in made)
        assert np.linalg.norm(b @ (b.T @ mean)) == pytest.approx(np.linalg.norm(mean), rel=1e-5)
        best = np.linalg.norm(np.linalg.svd(mean, compute_uv=False)[: len(a)])
        assert np.linalg.norm(mean @ a.T) == pytest.approx(best, rel=1e-5)
        assert not after.tensors[f"{name}.lora_R.weight"].any()
    assert after.tensors["thin.lora_A.weight"].tobytes() == TERMS.start().tensors["thin.lora_A.weight"].tobytes()
    assert not after.basis and after.pre_round is None and after.round == 0


def test_gradient_of_nothing_still_gives_orthonormal_bases() -> None:
    state = before_bases(gradients(2, scale=0.0))
    after = TERMS.adopt(state, SECOND, TERMS.propose(state, SECOND))
    a = after.tensors["h.lora_A.weight"]
    assert np.abs(a @ a.T - np.eye(3)).max() < 1e-6


def test_an_institution_s_sketches_have_norm_one() -> None:
    sketches = {"h": np.full((3, 4), 1e30), "g": np.full((2, 2), -1e30)}
    made = fedsb.scaled("gradient", sketches, fedsb.sketch_norm(sketches))
    assert sum(float(np.square(values).sum()) for values in made.values()) == pytest.approx(1.0)
    assert made.keys() == {"gradient.h", "gradient.g"} and fedsb.sketch_norm({"h": np.zeros(3)}) == 1.0


def test_two_sums_of_the_gradients_tell_no_more_than_one() -> None:
    """The attack of a coordinator: of Q^T Y = u + v and Z Omega = a u + b v it looks for the scalar at which their pencil loses rank,
    and has one institution's part where it does. Institutions that divide each sum by its own norm are its weakened twin."""
    made = gradients(2)[:2]
    state, omegas = after_first(made), fedsb.omegas(TERMS.plan, TERMS.adaptation.layout({}))
    q, omega = fedsb.ranges(state)["h"], omegas["h"]
    first = sum(q.T @ sent("gradient", sketches_of(one), one)["gradient.h"] for one in made)

    def told(norms: list[float]) -> float:
        second = sum(q.T @ one["h"] @ omega / norm for one, norm in zip(made, norms, strict=True))
        scalars = np.linalg.eigvals(np.linalg.pinv(first, rcond=1e-6) @ second)
        scalars = scalars[np.abs(scalars) > 1e-6].real
        return float(np.ptp(scalars) / np.abs(scalars).max())

    own = [float(np.sqrt(sum(np.square(q.T @ one[name]).sum() for name, q in fedsb.ranges(state).items()))) for one in made]
    assert told(own) > 1e-3
    assert told([fedsb.sketch_norm(sketches_of(one)) for one in made]) < 1e-6


def other_rows(proposed: Factors) -> Factors:
    return {**proposed, "tensors/h.lora_A.weight": np.eye(3, 30, dtype=np.float32)}


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        (lambda proposed: {}, "lacks tensors/g"),
        (other_rows, "misses the gradient's leading singular vectors"),
        (lambda proposed: {name: values * np.float32(2) for name, values in proposed.items()}, "misses the orthonormality"),
        (lambda proposed: {**proposed, "tensors/h.lora_R.weight": np.ones((3, 3), np.float32)}, "holds tensors/h.lora_R.weight"),
    ],
)
def test_bases_that_do_not_hold_are_refused(lie: Callable[[Factors], Factors], sentence: str) -> None:
    state = before_bases(gradients(None))
    with pytest.raises(ProposalError, match=sentence):
        TERMS.adopt(state, SECOND, lie(dict(TERMS.propose(state, SECOND))))


def test_cores_alone_are_trained_and_their_mean_is_exact() -> None:
    layout = TERMS.adaptation.layout({})
    assert {tensor.kind for tensor in rule_of(TERMS.plan).trained(1, layout)} == {"lora_R", "full"}
    assert [(one.round, one.kind) for one in planned_sums(TERMS.plan)][:4] == [
        (0, "evaluate"), (0, "gradient"), (0, "gradient-2"), (1, "update"),
    ]  # fmt: skip


def test_state_between_the_sums_binds_their_set() -> None:
    state = before_bases(gradients(2))
    assert state.pre_round is None and "core/h" in state.basis
    first = after_first(gradients(2))
    assert first.pre_round is not None and first.pre_round.members == ("a", "b", "c") and first.pre_round.threshold == 3
