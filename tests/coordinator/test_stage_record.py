"""While a stage is under way a file says who answered it and who is waited for; afterwards there is none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from coordinator.events import InstitutionAnswered, StageBegun, StageFinished
from coordinator.stage_record import Stage, StageRecord, read_stage

BEGUN = StageBegun(1, "update", 2, "train.sum", ("ada", "bea", "cyd"), 90.0)


def record(folder: Path) -> StageRecord:
    return StageRecord(folder, lambda: datetime(2030, 1, 1, 12, tzinfo=UTC))


def test_it_says_who_answered_and_who_is_waited_for(tmp_path: Path) -> None:
    kept = record(tmp_path)
    for event in (BEGUN, InstitutionAnswered("bea"), InstitutionAnswered("ada", "it left")):
        kept.note(event)
    stage = read_stage(tmp_path)
    assert stage == Stage(1, "update", 2, "train.sum", ("bea",), ("cyd",), {"ada": "it left"}, "2030-01-01T12:01:30+00:00")
    assert stage.line == (
        "round 1, update sum, attempt 2: bea answered train.sum; waiting for cyd until 12:01:30 UTC, then without them if enough are left; "
        "ada does not: it left"
    )
    assert replace(stage, attempt=1).line.startswith("round 1, update sum: bea answered"), "the first attempt is nobody's concern"
    kept.note(InstitutionAnswered("cyd"))
    assert read_stage(tmp_path) is None, "nobody is waited for"


def test_any_other_event_ends_it_and_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    kept = record(tmp_path)
    kept.note(BEGUN)
    begun = read_stage(tmp_path)
    assert begun is not None and "nobody has answered train.sum yet; waiting for ada, bea, cyd" in begun.line
    kept.note(StageFinished(1, "update", 2, "train.sum", ("ada",), ()))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "stage.json").write_text("[1]")
    assert read_stage(tmp_path) is None
    record(tmp_path / "none").note(StageFinished(1, "update", 2, "train.sum", ("ada",), ()))
