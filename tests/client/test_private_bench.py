"""Private training on the bundled base: units, real Poisson sampling, clipping, and randomness of the round's secret alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.choices import LabelPrior, build_trie, choice_counts
from client.dataset import Dataset, Example
from client.settings import HardwareSettings
from client.units import parts_of, units_of
from client.work import PrivateRound, Work
from client.workbench import Base, Workbench, load_base
from model.bases import bundled_base
from protocols.plan import Plan, parse_plan
from protocols.privacy.sampling import draw

UNITS = 12
GROUPS = tuple(f"patient {number // 3}" for number in range(UNITS))


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base(Path(bundled_base("tiny")), HardwareSettings())


def plan_of(**privacy: object) -> Plan:
    content = {
        "name": "private",
        "base": "tiny",
        "records": {"prompt": "{text}:", "target": " {label}", "too_long": "drop"},
        "trainable": {"lora_rank": 2, "targets": ["attention"], "experts": "none"},
        "training": {"local_steps": 2, "batch_size": 4},
        "evaluation": {"choices": [" a", " b"]},
        "privacy": {"clip": 0.5, **privacy},
    }
    return parse_plan(content, "plan")


def bench_of(base: Base, **privacy: object) -> Workbench:
    words = np.random.default_rng(0).integers(5, 200, (UNITS, 8), dtype=np.int32)
    ends = [[*base.tokenizer.encode(choice), base.tokenizer.eos_token_id] for choice in (" a", " b")]
    examples = []
    for row, tokens in enumerate(words):
        target = np.array(ends[row % 4 == 0], np.int32)
        learnt = np.arange(8 + len(target)) >= 8
        examples.append(Example(np.concatenate([tokens, target]), learnt, 8, "", 0))
    return Workbench(plan_of(**privacy), base, Dataset(tuple(examples), 0, 0, GROUPS), Dataset((), 0, 0))


def asked_of(bench: Workbench, secret: bytes, rate: float = 0.5) -> PrivateRound:
    state = bench.adaptation.initial({})
    trained = tuple(sorted(name for name in state if "lora_B" in name))
    return PrivateRound(1, state, trained, {}, rate, 1.0, secret.ljust(32))


def test_workbench_is_work(base: Base) -> None:
    work: Work = bench_of(base)
    assert work.private.units == UNITS


def test_training_follows_from_the_secret_alone_and_moves_every_tensor(base: Base) -> None:
    bench = bench_of(base)
    asked = asked_of(bench, b"one")
    first, again, other = (bench.private.train(one) for one in (asked, asked, asked_of(bench, b"other")))
    assert first.keys() == set(asked.trained)
    for name, values in first.items():
        assert np.array_equal(values, again[name]) and not np.array_equal(values, other[name]) and np.abs(values).min() > 0
    assert "secret" not in repr(asked)


def test_even_a_step_that_draws_nobody_is_noised(base: Base) -> None:
    bench = bench_of(base)
    delta = bench.private.train(asked_of(bench, b"none", rate=1e-9))
    assert all(np.abs(values).min() > 0 for values in delta.values())


@pytest.mark.parametrize(("unit", "units"), [("record", UNITS), ("group", 4)])
def test_each_unit_gives_one_gradient_within_the_clip(base: Base, unit: str, units: int) -> None:
    bench = bench_of(base, unit=unit)
    gradients = list(bench.private.clipped_gradients(asked_of(bench, b"all", rate=1.0)))
    norms = [np.linalg.norm(gradient) for gradient in gradients]
    assert len(gradients) == bench.private.units == units and max(norms) <= 0.5 and max(norms) > 0.1


def test_units_are_drawn_by_coins(base: Base) -> None:
    """As many as the binomial law says, and not a fixed number."""
    bench = bench_of(base)
    drawn = [len(list(bench.private.clipped_gradients(asked_of(bench, b"%d" % number)))) for number in range(12)]
    assert len(set(drawn)) > 2 and abs(np.mean(drawn) - UNITS / 2) < 4 * np.sqrt(UNITS / 4 / 12)


def test_groups_need_names(base: Base) -> None:
    bench = bench_of(base, unit="group")
    bench.train_set = replace(bench.train_set, groups=())
    assert bench.private.units == 0


def test_a_unit_is_never_divided() -> None:
    units = units_of(Dataset((), 0, 0, ("a", "b", "a", "c", "a")), "group")
    assert units == ((0, 2, 4), (1,), (3,))
    assert list(parts_of(units, np.array([0, 1, 2]), 2)) == [[(0, 2, 4)], [(1,), (3,)]]
    assert list(parts_of(units, draw(3, 0.0, bytes), 2)) == []


def test_each_group_adds_one_to_the_counts_of_labels(base: Base) -> None:
    assert bench_of(base).private.label_counts().tolist() == [9.0, 3.0]
    counts = bench_of(base, unit="group").private.label_counts()
    assert counts.sum() == pytest.approx(4.0) and counts[1] == pytest.approx(1.0)


def test_a_prior_of_counts_is_that_of_the_targets() -> None:
    trie = build_trie([[1, 2], [1, 3], [4, 9]])
    targets = [[1, 2], [1, 2], [1, 3], [4, 9], [7]]
    assert choice_counts(trie, targets).tolist() == [2.0, 1.0, 1.0]
    by_targets, by_counts = LabelPrior(trie, targets), LabelPrior(trie, targets, np.array([2.0, 1.0, 1.0]))
    assert by_targets.correction([1, 2]).values.tolist() == by_counts.correction([1, 2]).values.tolist()
    root = np.log(np.array([3.5, 1.5]) / 2.5)
    assert by_targets.correction([1, 2]).values[:2] == pytest.approx(root, rel=1e-6)
