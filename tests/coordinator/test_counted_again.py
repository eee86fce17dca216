"""`verify --full` counts what is kept, says what is not, and reports proof against institutions."""

from __future__ import annotations

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


def test_altered_upload_is_wrong(finished: Federation) -> None:
    spool = next((finished.directory / "runs").glob("*/sums/00003-update-*/uploads/1/spool"))
    spool.write_bytes(bytes(spool.stat().st_size))
    audit = audited(finished)
    assert not audit.ok and "is not the one that it signed" in audit.failed[0]
    finished.close()


def test_proof_against_an_institution_is_reported(tmp_path: Path) -> None:
    federation = wrong_share(tmp_path)
    federation.run()
    audit = audited(federation, full=False)
    assert any("eve opened a wrong share of the self seed of ada" in sentence for sentence in audit.proved), audit.proved
    federation.close()
