"""Counting again finds what was altered anywhere: in an upload, in the seeds, or in the total itself; and names the file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from coordinator.recount import KeptSum
from coordinator.transcripts import KeptTranscripts, kept_transcripts
from protocols.errors import ProtocolError, WrongTotal
from protocols.merkle import leaf_hash, merkle_root
from protocols.roster import Roster
from tests.federation.federation import Federation, make_plan

Kept = tuple[KeptSum, Roster]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KeptTranscripts, Roster]]:
    trainable = {"lora_rank": 2, "targets": ["lm_head"], "experts": "none"}
    federation = Federation(tmp_path_factory.mktemp("run"), make_plan(rounds=3, trainable=trainable))
    result = federation.run()
    yield kept_transcripts(federation.directory / "runs" / result.run), federation.roster
    federation.close()


@pytest.fixture
def kept(finished: tuple[KeptTranscripts, Roster], tmp_path: Path) -> Kept:
    """A copy of the last update's record."""
    transcripts, roster = finished
    one = transcripts.transcripts[3, "update"]
    return KeptSum(shutil.copytree(transcripts.folder(one), tmp_path / "copy"), one), roster


def test_sums_of_the_last_rounds_are_kept_and_add_up(finished: tuple[KeptTranscripts, Roster]) -> None:
    transcripts, roster = finished
    sums = [KeptSum(transcripts.folder(one), one) for one in transcripts.transcripts.values()]
    kept = [one for one in sums if not one.missing]
    assert {one.transcript.manifest.round for one in kept} == {2, 3}, "audit_rounds is 2"
    assert len(sums) == 7, "transcripts are kept for good"
    for one in kept:
        one.check_manifest()
        assert "is the sum of its 4 uploads in all" in one.recount(roster)


def test_altered_total_is_found(kept: Kept) -> None:
    one, roster = kept
    total = (one.folder / "total").read_bytes()
    altered = merkle_root([leaf_hash(bytes([total[0] ^ 1]) + total[1:])])
    with pytest.raises(WrongTotal, match="update sum of round 3 of run .* is not the sum of its 4 uploads"):
        replace(one, transcript=replace(one.transcript, total=altered)).recount(roster)


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("file", ["uploads/2/spool", "uploads/2/root", "opened", "manifest"])
def test_altered_file_is_named_and_nobody_is_accused(kept: Kept, file: str, place: int) -> None:
    one, roster = kept
    content = bytearray((one.folder / file).read_bytes())
    content[place] ^= 1
    (one.folder / file).write_bytes(content)
    check = one.check_manifest if file == "manifest" else partial(one.recount, roster)
    with pytest.raises(ProtocolError) as caught:
        check()
    said = f"not what the transcript of the {one.name} names, changed or damaged; restore it from a backup"
    assert str(caught.value) == f"{one.folder / file}: {said}"


@pytest.mark.parametrize("file", ["uploads/3/root", "uploads/3/spool", "opened"])
def test_missing_file_is_named(kept: Kept, file: str) -> None:
    one, roster = kept
    (one.folder / file).unlink()
    assert one.missing == [one.folder / file]
    with pytest.raises(ProtocolError, match=f"{file}: cannot be read for the update sum of round 3 .*; restore it from a backup"):
        one.recount(roster)
