"""Uploads that are cut, damaged, sent in several parts or too late: what is summed is what was signed, whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.store import RunStore
from protocols.state import state_hash
from tests.federation.crashes.checks import check
from tests.federation.crashes.lives import NO_EXPERTS, lived
from tests.federation.crashes.test_coordinator_lines import dying
from tests.federation.federation import NAMES, make_plan

IN_PARTS = make_plan(rounds=1, trainable=NO_EXPERTS | {"lora_rank": 4096, "targets": ["lm_head"]})


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update of 40 chunks takes three messages."""
    monkeypatch.setattr("protocols.secagg.inputs.PART_CHUNKS", 16)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


PROPOSING, CERTIFYING = "update-1/proposal before", "update-1/certificate before"
DAMAGES = [(where, name, damage) for where in (PROPOSING, CERTIFYING) for name in ("spool", "root") for damage in (flip, cut, Path.unlink)]
QUICK = [(PROPOSING, "spool", flip), (CERTIFYING, "root", Path.unlink)]


@pytest.mark.parametrize(("where", "name", "damage"), [pytest.param(*d, marks=() if d in QUICK else pytest.mark.slow) for d in DAMAGES])
def test_upload_that_was_damaged_after_it_counted_is_asked_for_again(
    disk: Path, where: str, name: str, damage: Callable[[Path], None]
) -> None:
    def between(directory: Path) -> None:
        damage(next(directory.glob(f"runs/*/sums/00001-update-1/uploads/2/{name}")))

    with lived(dying(disk, where), between) as run:
        check(run)
        folders = [r.folder.name for r in RunStore(disk / "federation/runs" / run.result.run).records if r.transcript is not None]
    # Before a set is proposed, an upload without its root never counted, and is asked for in the same attempt.
    assert "00001-update-2" in folders or (where, name, damage) == (PROPOSING, "root", Path.unlink)


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.usefixtures("small_parts")
def test_crash_between_parts(disk: Path, part: int) -> None:
    with lived(dying(disk, f"update-1/uploads/2 within part {part}"), plan=IN_PARTS) as run:
        check(run)
        assert run.points.where == "" and run.result.state.round == 1


@pytest.mark.usefixtures("small_parts")
def test_parts_do_not_change_the_bits(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lived(dying(disk, ""), plan=IN_PARTS) as run:
        bits = state_hash(run.result.state)
    monkeypatch.undo()
    (disk / "whole").mkdir()
    with lived(dying(disk / "whole", ""), plan=IN_PARTS) as run:
        assert state_hash(run.result.state) == bits


@pytest.mark.usefixtures("small_parts")
def test_late_part_is_never_summed(disk: Path) -> None:
    """Dov's second part did not come; when a later process could have it, the set is frozen without dov."""
    late: list[bool] = []
    silent: dict[str, Any] = {"fails": lambda name, message_type: not late and (name, message_type) == ("dov", "query.upload")}
    with lived(dying(disk, "update-1/certificate before"), lambda _: late.append(True), plan=IN_PARTS, **silent) as run:
        check(run)
        (record,) = [r for r in RunStore(disk / "federation/runs" / run.result.run).records if "update" in r.folder.name]
        assert late and record.certificate is not None and record.certificate.proposal.members == NAMES[:-1]
        assert not (record.folder / "uploads" / "4" / "root").exists()
