"""Requirements of a release, and an audit that finds a release which met none and was decided by nobody."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.absences import spans
from coordinator.gate import unmet
from coordinator.registry import Registry
from coordinator.registry.records import ModelVersion, Round
from coordinator.registry.states import RunState
from coordinator.verify import verify_registry
from protocols.plan import Plan, parse_plan
from protocols.sums.evaluate import WORSE_THAN_ALONE
from tests.coordinator.conftest import SKETCH, make_round


def plan_requiring(**required: object) -> Plan:
    return parse_plan({**SKETCH, "release": {"require": required}}, "the sketch")


def last_round(worse: float | None) -> Round:
    return replace(make_round(2, 0.75), figures={} if worse is None else {WORSE_THAN_ALONE: worse})


@pytest.mark.parametrize(("final", "required", "met"), [(0.5, 0.25, True), (0.5, 0.26, False), (math.nan, 0.0, False), (None, 0.5, True)])
def test_gain_over_the_base(final: float | None, required: float, met: bool) -> None:
    rounds = (make_round(0, 0.25), make_round(1, final) if final is not None else replace(make_round(1), metric=None))
    if final is None:
        rounds = (replace(rounds[0], metric=None), rounds[1])
    assert (unmet(plan_requiring(metric_above_base=required), rounds) == ()) is met


@pytest.mark.parametrize(("worse", "sentence"), [(0.0, None), (1.0, "worse for 1 of 3 institutions"), (None, "was not compared")])
def test_nobody_worse_than_alone(worse: float | None, sentence: str | None) -> None:
    found = unmet(plan_requiring(no_institution_worse_than_alone=True), (make_round(0, 0.25), last_round(worse)))
    assert found == () if sentence is None else sentence in found[0]
    assert unmet(plan_requiring(), (make_round(0, 0.25), last_round(worse))) == ()


def test_audit_finds_a_release_that_nobody_decided(registry: Registry, running: str, tmp_path: Path) -> None:
    for number, metric in enumerate((0.5, 0.4)):
        registry.record_round(running, make_round(number, metric))
    registry.set_state(running, RunState.FINISHED)
    registry.add_model_version(ModelVersion("triage", 1, running, "triage/1", "0" * 64, "0" * 64, "0" * 64, 0.4))
    failed = verify_registry(registry, tmp_path / "models").failed
    assert any("was released although accuracy went from 0.5000 (base) to 0.4000" in fault for fault in failed)


@pytest.mark.parametrize(("numbers", "text"), [((3,), "3"), ((0, 1, 2), "0-2"), ((1, 3, 4, 5, 8), "1, 3-5, 8")])
def test_rounds_are_told_in_spans(numbers: tuple[int, ...], text: str) -> None:
    assert spans(numbers) == text
