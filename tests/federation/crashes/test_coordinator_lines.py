"""A coordinator that dies at a line of the durability table (PROTOCOL, section 5) asks nothing in two ways afterwards.

The release's line is in tests/coordinator/test_release.py. Epsilon is not reserved yet, so no row of a round holds any.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator.store import RunStore
from tests.federation.crashes.checks import check
from tests.federation.crashes.lives import lived
from tests.federation.crashes.points import COORDINATOR, Points
from tests.federation.federation import NAMES

LINES = {
    "a request is written down": r"requests/\w+\.json before",
    "a request left": "train.sum of ada arrived",
    "an upload counts": "00001-update-1/uploads/2/root before",
    "an upload counted": "00001-update-1/uploads/3 within",
    "survivor proposal": "00001-update-1/proposal before",
    "a set was proposed": "query.survivors of ada arrived",
    "unmask request": "00001-update-1/certificate before",
    "a set was certified": "query.unmask of ada arrived",
    "sum used": "00001-update-1/unmask/.* before",
    "seeds opened": "00001-update-1/opened before",
    "total written": "00001-update-1/transcript before",
    "state written": r"states/\w+\.safetensors before",
    "round in the journal": "query.transcript of ada arrived",
    "confirmed": "query.total of dov arrived",
}

TABLE = ("a request is written down", "an upload counts", "survivor proposal", "unmask request", "sum used", "state written")


@pytest.mark.parametrize("line", [pytest.param(line, marks=() if line in TABLE else pytest.mark.slow) for line in LINES])
def test_line(disk: Path, line: str) -> None:
    with lived(dying(disk, LINES[line])) as run:
        check(run)
        assert run.points.where == "", "nothing died"
        assert [row.number for row in run.federation.registry.rounds(run.result.run)] == [0, 1]
        run.federation.registry.verify_chain()


def test_round_is_recorded_once(disk: Path) -> None:
    """The journal is ahead of the registry when a process dies in between: the row follows, and no second one."""
    with lived(dying(disk, "", number=_commit_of_round(disk))) as run:
        check(run)
        assert [row.number for row in run.federation.registry.rounds(run.result.run)] == [0, 1]


def test_frozen_set_stays_when_someone_comes_back(disk: Path) -> None:
    lives: list[int] = []
    away: dict[str, Any] = {"fails": lambda *question: not lives and question == ("dov", "train.sum")}
    points = dying(disk, "00001-update-1/certificate before")
    with lived(points, between=lambda _: lives.append(1), **away) as run:
        check(run)
        records = RunStore(points.directory / "runs" / run.result.run).records
        sets = [record.proposal for record in records if "update" in record.folder.name]
    assert lives and [one.members for one in sets if one is not None] == [NAMES[:-1]]


def dying(disk: Path, where: str, number: int = 0, party: str = COORDINATOR) -> Points:
    directory = disk / "federation"
    directory.mkdir()
    return Points(directory, number, where, parties=(party,))


def _commit_of_round(disk: Path) -> int:
    """The point before the registry's commit of round 1's row: the last but one of the commits before the run is said to be finished."""
    directory = disk / "undisturbed"
    directory.mkdir()
    with lived(Points(directory, parties=(COORDINATOR,))) as run:
        commits = [number for number, name in enumerate(run.points.names, 1) if "registry's commit" in name]
    return commits[-3]
