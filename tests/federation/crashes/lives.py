"""A run over several lives: everything dies at a point, is opened again on what was on disk, and goes on to the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coordinator.job import RunResult
from tests.federation.crashes.points import Points, watch
from tests.federation.crashes.watched import Log, Watched, watch_vectors
from tests.federation.federation import Crash, make_plan

NO_EXPERTS = {"lora_rank": 2, "targets": ["attention", "lm_head"], "experts": "none"}
PLAN = make_plan(rounds=1, trainable=NO_EXPERTS)


@dataclass(frozen=True)
class Lived:
    """A finished run: its last federation is still open."""

    federation: Watched
    result: RunResult
    log: Log
    points: Points


@contextmanager
def lived(points: Points, between: Callable[[Path], object] = lambda _: None, slots: int = 4, **options: Any) -> Iterator[Lived]:
    """Runs the small plan to its end, with a second life if the first one ends at a point.

    Args:
        between: is done to what is on disk before the second life.
        slots: of an epoch.
        options: further ones of `Watched`, and `plan`.
    """
    log, plan = Log(), options.pop("plan", PLAN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coordinator.cohort.SLOTS", slots)
        watch(points, patch)
        watch_vectors(log, patch)
        try:
            federation, result = _life(points, log, plan, options)
        except Crash:
            points.close()
            points.restore()
            between(points.directory)
            federation, result = _life(points, log, plan, options)
        yield Lived(federation, result, log, points)
        federation.close()
        points.close()


def _life(points: Points, log: Log, plan: Any, options: dict[str, Any]) -> tuple[Watched, RunResult]:
    federation = Watched(points.directory, plan, log=log, points=points, **options)
    try:
        return federation, federation.run()
    except Crash:
        federation.registry.close()
        raise
