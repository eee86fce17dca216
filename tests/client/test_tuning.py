"""Which model of a tune-up is kept, and on which records it is judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.errors import RecordError
from client.settings import HardwareSettings
from client.tuning import SECTIONS, _Candidate, _chosen, divided, tune
from client.work import MetricSums
from client.workbench import Base, load_base
from model.bases import bundled_base
from protocols.state import State
from tests.client.test_workbench import make_plan, open_bench


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base(Path(bundled_base("tiny")), HardwareSettings())


def candidate(step: int, *right: int) -> _Candidate:
    return _Candidate(State("", 0, {}), step, tuple(MetricSums(float(count), 10) for count in right))


@pytest.mark.parametrize(
    ("last", "kept"),
    [((8, 9, 8, 9, 8), 2), ((9, 9, 8, 9, 8), 2), ((9, 8, 9, 8, 8), 2), ((5, 6, 5, 6, 5), 1), ((0, 0, 0, 0, 0), 1)],
)
def test_the_last_model_is_kept_unless_another_is_clearly_better(last: tuple[int, ...], kept: int) -> None:
    measured = [candidate(0, 4, 5, 4, 5, 4), candidate(1, 9, 9, 8, 9, 9), candidate(2, *last)]
    assert _chosen(measured, higher_is_better=True).step == kept
    assert _chosen(measured, higher_is_better=False).step == (2 if last == (0,) * 5 else 0)


def test_with_one_block_alone_any_difference_is_clear_and_none_is_not() -> None:
    assert _chosen([candidate(0, 9), candidate(1, 8)], higher_is_better=True).step == 0
    assert _chosen([candidate(0, 9), candidate(1, 9)], higher_is_better=True).step == 1


def test_a_tenth_is_held_out_and_never_trained_on(base: Base, tmp_path: Path) -> None:
    examples = open_bench(make_plan(), base, tmp_path).train_set.examples
    rest, held = divided(examples, seed=3)
    assert len(held) == len(examples) // 10 == 3 and len(rest) + len(held) == len(examples)
    assert {id(one) for one in (*rest, *held)} == {id(one) for one in examples}
    assert [id(one) for one in divided(examples, seed=3)[1]] == [id(one) for one in held]
    with pytest.raises(RecordError, match="two training records or more"):
        divided(examples[:1], seed=3)


def test_a_tune_up_learns_the_institution_s_own_labels_and_leaves_the_shared_state_alone(base: Base, tmp_path: Path) -> None:
    bench = open_bench(make_plan(training={"batch_size": 8, "label_prior": "corrected"}), base, tmp_path, labels=("pale green",))
    shared = State(bench.base_sha256, 4, bench.adaptation.initial({}))
    before = {name: values.copy() for name, values in shared.tensors.items()}
    told: list[tuple[int, int]] = []
    tuned = tune(bench, shared, shared, steps=13, learning_rate=1e-2, on_section=lambda *done: told.append(done))
    assert tuned.after == 1.0 > tuned.before and tuned.step == tuned.steps == 16 and tuned.held_out == 3
    assert told == [(number, SECTIONS) for number in range(1, SECTIONS + 1)]
    assert bench.evaluate(tuned.state.tensors, {}).numerator == 8.0
    assert all(np.array_equal(shared.tensors[name], values) for name, values in before.items())
