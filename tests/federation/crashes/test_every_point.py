"""A small run that dies at any one point ends with the bits of an undisturbed one, and nothing is said in two ways.

Not among the points: the request to join, checkpoints (`test_checkpoints.py`), and epsilon that is reserved and spent.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from protocols.state import state_hash
from tests.federation.crashes.checks import check
from tests.federation.crashes.lives import lived
from tests.federation.crashes.points import COORDINATOR, Points
from tests.federation.federation import make_plan

# All members do the same things, so the points of one stand for those of the others.
EVERYTHING = {"parties": (COORDINATOR, "bea")}
ONE_NODE = {"parties": ("bea",), "alone": True}
WITH_EXPERTS = "everything, with experts"
SCENES: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {  # what dies, and how the federation is
    "everything": (EVERYTHING, {}),
    "everything, one member away": ({"parties": (COORDINATOR,)}, {"fails": lambda *question: question == ("dov", "train.sum")}),
    "a node that comes back": (ONE_NODE, {}),
    "a node that is missed": (ONE_NODE, {"survives": False}),
    WITH_EXPERTS: ({"parties": (COORDINATOR,)}, {"plan": make_plan(rounds=1)}),
}
SHARES = 4


def failures(disk: Path, scene: str, share: slice) -> list[str]:
    """What went wrong at some of a scene's points, each with its name."""
    dies, options = SCENES[scene]
    with _life(disk, 0, dies, options) as undisturbed:
        check(undisturbed)
        bits, names = state_hash(undisturbed.result.state), undisturbed.points.names
    faults = {number: _fault(disk, number, scene, bits) for number in range(1, len(names) + 1)[share]}
    return [f"{number}, {names[number - 1]}: {fault}" for number, fault in faults.items() if fault]


def _fault(disk: Path, number: int, scene: str, bits: bytes) -> str:
    try:
        dies, options = SCENES[scene]
        with _life(disk, number, dies, options) as run:
            check(run)
            # Whoever was missed has no part in the total, which is the plain sum of the others' all the same.
            assert state_hash(run.result.state) == bits or not run.federation.survives, "other bits than those of an undisturbed run"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _life(disk: Path, number: int, dies: dict[str, Any], options: dict[str, Any]) -> Any:
    for path in disk.iterdir():
        shutil.rmtree(path)
    directory = disk / "federation"
    directory.mkdir()
    return lived(Points(directory, number, **dies), **options)


@pytest.mark.parametrize(("scene", "step"), [("everything", 61), ("a node that comes back", 37), ("a node that is missed", 41)])
def test_some_points(disk: Path, scene: str, step: int) -> None:
    assert not failures(disk, scene, slice(3, None, step))


@pytest.mark.slow
@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene != WITH_EXPERTS])
def test_every_point(disk: Path, scene: str, share: int) -> None:
    assert not failures(disk, scene, slice(share, None, SHARES))


@pytest.mark.slow
def test_some_points_of_a_round_with_experts(disk: Path) -> None:
    assert not failures(disk, WITH_EXPERTS, slice(0, None, 11))
