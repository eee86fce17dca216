"""A release may ask that no institution does better alone: each compares by itself, and only the number of those who do is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from client.work import LocalUpdate, MetricSums
from coordinator.errors import ReleaseRefused
from coordinator.gate import OVERRIDE
from coordinator.job import RunResult
from coordinator.release import TrainedModel, release_model
from protocols.schedule import planned_sums, upload_deadline
from protocols.state import Experts, Tensors
from protocols.sums.evaluate import WORSE_THAN_ALONE
from tests.federation.federation import Crash, Federation, FormulaWork, make_plan
from tests.federation.private_plans import SMALL

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PLAN = make_plan(trainable=SMALL, release={"require": {"metric_above_base": None, "no_institution_worse_than_alone": True}})


@dataclass
class ProudWork(FormulaWork):
    """Half of the test records are right with the shared model, and `right` of ten with the local-only one."""

    right: float = 5.0

    rounds: list[int] = field(default_factory=list)  # trained alone
    alone: Tensors = field(default_factory=dict)

    def train_alone(self, round_number: int, tensors: Tensors, experts: Experts, steps: int | None = None) -> LocalUpdate:
        update = super().train_alone(round_number, tensors, experts, steps)
        self.rounds.append(round_number)
        self.alone = {name: values + update.delta[name] for name, values in tensors.items()}
        return update

    def evaluate(self, tensors: Tensors, experts: Experts) -> MetricSums:
        mine = all(name in self.alone and np.array_equal(values, self.alone[name]) for name, values in tensors.items())
        return MetricSums(self.right if mine else 5.0, 10)


@dataclass
class DyingWork(ProudWork):
    """Its process dies in the second round of what it trains alone."""

    def train_alone(self, round_number: int, tensors: Tensors, experts: Experts, steps: int | None = None) -> LocalUpdate:
        if round_number == 2:
            raise Crash
        return super().train_alone(round_number, tensors, experts, steps)


class Proud(Federation):
    """All works are proud ones."""

    works: dict[str, ProudWork]  # type: ignore[assignment]


def federation(place: Path, right: Mapping[str, float]) -> Proud:
    made = Proud(place, PLAN)
    for name in made.names:
        made.works[name] = ProudWork(name, PLAN, made.adaptation, right=right.get(name, 5.0))
    return made


def released(made: Federation, result: RunResult, place: Path, override: str = "") -> str:
    trained = TrainedModel(result.run, result.state, result.transcript_sha256, result.threshold, result.colluding)
    version = release_model(
        made.registry, PLAN, trained, identity=made.operator_identity, models=place / "models", now=NOW, override=override
    )
    return (place / "models" / version.path / "README.md").read_text()


def test_model_that_is_worse_for_nobody_is_released(tmp_path: Path) -> None:
    made = federation(tmp_path, {"ada": 4.0})
    result = made.run()
    figures = [finished.figures for finished in made.registry.rounds(result.run)]
    assert figures == [{}, {}, {WORSE_THAN_ALONE: 0.0}]
    assert "| institutions for which their local-only model is better | 0 of 4 |" in released(made, result, tmp_path)
    made.close()


def test_only_the_number_of_those_who_do_better_alone_is_known_and_the_model_is_refused(tmp_path: Path) -> None:
    made = federation(tmp_path, {"bea": 6.0, "dov": 10.0})
    result = made.run()
    assert made.registry.rounds(result.run)[-1].figures == {WORSE_THAN_ALONE: 2.0}
    with pytest.raises(ReleaseRefused, match="worse for 2 of 4 institutions than their local-only ones"):
        released(made, result, tmp_path)
    card = released(made, result, tmp_path, override="a trial for [ada](http://x) | only")
    assert "## Released all the same" in card and r"a trial for \[ada\](http://x) \| only" in card
    (event,) = [one for one in made.registry.events(result.run) if one.kind == OVERRIDE]
    assert "a trial for" in event.body and "no_institution_worse_than_alone" in event.body
    made.close()


def test_what_was_trained_alone_is_trained_once_also_over_a_crash(tmp_path: Path) -> None:
    made = federation(tmp_path, {})
    work = made.works["cyd"] = DyingWork("cyd", PLAN, made.adaptation)
    with pytest.raises(Crash):
        made.run()
    made.close()
    again = federation(tmp_path, {"cyd": 9.0})
    result = again.run()
    assert (work.rounds, [again.works[name].rounds for name in ("ada", "cyd")]) == ([1], [[], [2]])
    assert again.registry.rounds(result.run)[-1].figures == {WORSE_THAN_ALONE: 1.0}
    again.close()


def test_the_last_evaluation_waits_for_all_that_is_trained_within_it() -> None:
    waits = [upload_deadline(PLAN, planned) for planned in planned_sums(PLAN)]
    assert waits == [5] * (len(waits) - 1) + [5 * (1 + PLAN.rounds)]
