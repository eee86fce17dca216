"""`verify --full` counts what is kept, says what is not, and reports proof against institutions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from coordinator.verify import NOT_COUNTED, verify_registry
from protocols.audit import Audit
from tests.federation.federation import Federation, make_plan
from tests.federation.test_blame import wrong_share


def audited(federation: Federation, full: bool = True) -> Audit:
    return verify_registry(federation.registry, federation.directory / "models", runs=federation.directory / "runs", full=full)


@pytest.fixture
def finished(tmp_path: Path) -> Federation:
    federation = Federation(tmp_path, make_plan(rounds=3, trainable={"lora_rank": 2, "targets": ["lm_head"], "experts": "none"}))
    federation.run()
    return federation


def test_kept_sums_are_counted_and_the_others_are_said_not_to_be(finished: Federation) -> None:
    audit = audited(finished)
    assert audit.ok, audit.failed
    assert sum("is the sum of its 4 uploads in all" in sentence for sentence in audit.proved) == 4  # update and evaluate of two rounds
    assert any(sentence.startswith("3 sums of run") for sentence in audit.unproved) and NOT_COUNTED not in audit.unproved
    shorter = audited(finished, full=False)
    assert NOT_COUNTED in shorter.unproved and not any("uploads" in sentence for sentence in shorter.proved)
    finished.close()


def altered(path: Path, place: int = -1) -> Path:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    return path


def sum_of(federation: Federation, name: str) -> Path:
    (folder,) = (federation.directory / "runs").glob(f"*/sums/{name}-*")
    return folder


def test_altered_upload_is_named(finished: Federation) -> None:
    spool = altered(sum_of(finished, "00003-update") / "uploads" / "1" / "spool")
    (failure,) = audited(finished).failed
    assert failure.startswith(f"{spool}: not what the transcript of the update sum of round 3 of run") and "backup" in failure
    finished.close()


def test_altered_transcript_is_named_and_not_said_to_be_a_wrong_sum(finished: Federation) -> None:
    path = altered(sum_of(finished, "00003-update") / "transcript", place=-40)
    (failure,) = audited(finished).failed
    assert failure.startswith(f"{path}: ") and "restore it from a backup" in failure and "is not the sum" not in failure
    finished.close()


def test_uploads_that_should_be_kept_are_missed(finished: Federation) -> None:
    shutil.rmtree(sum_of(finished, "00002-update") / "uploads")
    (sum_of(finished, "00003-update") / "uploads" / "2" / "spool").unlink()
    for full in (True, False):
        gone, partly = audited(finished, full).failed
        assert "the uploads of the update sum of round 2 of run" in gone and "should be kept until round 4 and are missing" in gone
        assert "uploads/2/spool of the update sum of round 3 of run" in partly and "should be kept until round 5" in partly
    finished.close()


def test_finished_run_without_transcripts_is_wrong(finished: Federation) -> None:
    shutil.rmtree(finished.directory / "runs")
    (failure,) = audited(finished).failed
    assert "is finished, and none of its transcripts is in" in failure
    finished.close()


def test_proof_against_an_institution_is_reported(tmp_path: Path) -> None:
    federation = wrong_share(tmp_path)
    federation.run()
    audit = audited(federation, full=False)
    assert any("eve opened a wrong share of the self seed of ada" in sentence for sentence in audit.proved), audit.proved
    federation.close()
