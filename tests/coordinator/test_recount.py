"""Counting again finds what was altered anywhere: in an upload, in the seeds, or in the total itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.recount import can_be_recounted, recount
from coordinator.store import RunStore
from coordinator.sum_record import SumRecord
from protocols.errors import ProtocolError, WrongTotal
from protocols.merkle import leaf_hash, merkle_root
from protocols.roster import Roster
from tests.federation.federation import Federation, make_plan

Kept = tuple[SumRecord, Roster]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunStore, Roster]]:
    trainable = {"lora_rank": 2, "targets": ["lm_head"], "experts": "none"}
    federation = Federation(tmp_path_factory.mktemp("run"), make_plan(rounds=3, trainable=trainable))
    result = federation.run()
    yield RunStore(federation.directory / "runs" / result.run), federation.roster
    federation.close()


@pytest.fixture
def kept(finished: tuple[RunStore, Roster], tmp_path: Path) -> Kept:
    """A copy of the last update's record."""
    store, roster = finished
    (record,) = [one for one in store.records if (one.manifest.round, one.manifest.sum) == (3, "update")]
    copied = tmp_path / record.folder.name
    for path in (path for path in record.folder.rglob("*") if path.is_file()):
        target = copied / path.relative_to(record.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return SumRecord(copied), roster


def test_sums_of_the_last_rounds_are_kept_and_add_up(finished: tuple[RunStore, Roster]) -> None:
    store, roster = finished
    rounds = {record.manifest.round for record in store.records if can_be_recounted(record)}
    assert rounds == {2, 3}, "audit_rounds is 2"
    assert all(record.transcript for record in store.records), "transcripts are kept for good"
    for record in store.records:
        if can_be_recounted(record):
            assert "is the sum of its 4 uploads in all" in recount(record, roster)


def test_altered_total_is_found(kept: Kept) -> None:
    record, roster = kept
    transcript = record.transcript
    assert transcript is not None
    altered = bytes([record.total[0] ^ 1]) + record.total[1:]
    (record.folder / "total").write_bytes(altered)
    (record.folder / "transcript").write_bytes(replace(transcript, total=merkle_root([leaf_hash(altered)])).to_bytes())
    with pytest.raises(WrongTotal, match="update sum of round 3 of run .* is not the sum of its 4 uploads"):
        recount(record, roster)


@pytest.mark.parametrize("file", ["uploads/2/spool", "uploads/2/root", "opened"])
def test_altered_file_is_found(kept: Kept, file: str) -> None:
    record, roster = kept
    content = bytearray((record.folder / file).read_bytes())
    content[-1] ^= 1
    (record.folder / file).write_bytes(content)
    with pytest.raises(ProtocolError):
        recount(record, roster)


def test_missing_upload_is_found(kept: Kept) -> None:
    record, roster = kept
    (record.folder / "uploads" / "3" / "root").unlink()
    with pytest.raises(ProtocolError, match="not those of the set that was signed"):
        recount(record, roster)
