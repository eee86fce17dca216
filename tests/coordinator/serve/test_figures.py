"""What Prometheus reads of an operator's side is what the registry says, and nothing that is learnt from records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from coordinator.events import RoundFinished, StageFinished
from coordinator.operator_home import OperatorHome
from coordinator.registry import Registry
from coordinator.registry.records import ModelVersion
from coordinator.serve.figures import Figures
from coordinator.serve.places import Places
from coordinator.serve.stage_times import StageTimes, read_times
from coordinator.serve.supervisor import Supervisor
from coordinator.settings import CoordinatorSettings
from protocols.metrics import MetricsUnserved, serve_metrics
from tests.deployment.figures import scraped
from tests.deployment.processes import free_port


def supervisor(**starts: int) -> Supervisor:
    return cast(Supervisor, SimpleNamespace(starts=starts))


def test_figures_are_those_of_the_registry(registry: Registry, release: Callable[[], ModelVersion], running: str, tmp_path: Path) -> None:
    release()
    places, port = Places(OperatorHome(tmp_path, CoordinatorSettings())), free_port()
    ticks = iter((0.0, 1.5, 4.0, 5.0))
    times = StageTimes(places.stage_times(running), lambda: next(ticks))
    for event in (stage("train.sum"), RoundFinished(1, 3, (), 0.25, 0.5, 1.0, 2, 3), stage("train.sum")):
        times.note(event)
    with serve_metrics(port, Figures(registry, places, supervisor(superlink=2), lambda: True)):
        found = scraped(port)
        with pytest.raises(MetricsUnserved, match=f"port {port}"), serve_metrics(port):
            pass
    recorded = registry.rounds(running)
    expected: dict[tuple[str, ...], Any] = {
        ("superlink_up",): 1, ("registry_up",): 1, ("child_starts_total", "superlink"): 2,
        ("runs", "finished"): 1, ("runs", "running"): 0, ("participants", "active"): 4, ("participants", "revoked"): 0,
        ("run_round", running): 2, ("run_rounds_planned", running): 2, ("round_seconds", running): recorded[-1].seconds,
        ("round_institutions", running, "present"): 3, ("round_institutions", running, "missing"): 1,
        ("run_bytes_total", "up", running): sum(one.bytes_up for one in recorded),
        ("run_bytes_total", "down", running): sum(one.bytes_down for one in recorded),
        ("stage_seconds_count", running, "train.sum"): 2, ("stage_seconds_sum", running, "train.sum"): 2.5,
    }  # fmt: skip
    assert {key: found.get(key) for key in expected} == expected
    assert not any("loss" in word or "metric" in word for key in found for word in key)


def test_a_registry_that_is_away_is_a_figure(registry: Registry, tmp_path: Path) -> None:
    places, port = Places(OperatorHome(tmp_path, CoordinatorSettings())), free_port()
    registry.close()
    (tmp_path / "registry.db").write_bytes(b"no database" * 100)
    with serve_metrics(port, Figures(registry, places, supervisor(), lambda: False)):
        found = scraped(port)
    assert found == {("superlink_up",): 0, ("registry_up",): 0}


def test_stage_times_go_on_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "figures" / "run.json"
    for _ in range(2):
        ticks = iter((1.0, 2.0))
        StageTimes(path, lambda: next(ticks)).note(stage("query.unmask"))  # noqa: B023 (used at once)
    assert read_times(path) == {"query.unmask": (2, 2.0)}
    path.write_text("[1]")
    assert read_times(path) == {}


def stage(name: str) -> StageFinished:
    return StageFinished(1, "update", 0, name, ("amber",), ())
