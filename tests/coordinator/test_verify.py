"""The audit proves what it can, names what is wrong, and admits the rest."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.registry import Registry
from coordinator.registry.records import ModelVersion
from coordinator.release import TrainedModel
from coordinator.verify import NOT_COUNTED, NOT_PROVED, UNKNOWN_KEYS, verify_registry


@pytest.fixture
def models(release: Callable[[], ModelVersion], tmp_path: Path) -> Path:
    release()
    return tmp_path / "models"


def tamper(tmp_path: Path, statement: str) -> None:
    connection = sqlite3.connect(tmp_path / "registry.db")
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_untouched_registry_is_proved(registry: Registry, models: Path, trained: TrainedModel) -> None:
    audit = verify_registry(registry, models)
    assert (audit.ok, audit.failed) == (True, [])
    assert [*NOT_PROVED, UNKNOWN_KEYS, NOT_COUNTED] == audit.unproved[: len(NOT_PROVED) + 2]
    assert audit.unproved[-1] == f"Events 1 to {registry.head().length} of the chain: no institution countersigned them."
    told = "\n".join(audit.proved)
    for text in ("event chain is whole", "4 institutions", f"3 rounds of run {trained.run}, with 6 transcript hashes", "model triage 1"):
        assert text in told


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("UPDATE rounds SET metric = 0.99 WHERE number = 2", "rounds of run"),
        ("UPDATE rounds SET transcripts = '[]' WHERE number = 1", "rounds of run"),
        ("DELETE FROM contributions WHERE id = 1", "rounds of run"),
        ("UPDATE contributions SET missing_from = NULL", "rounds of run"),
        ("UPDATE runs SET seed = 7", "run triage"),
        ("UPDATE runs SET state = 'failed'", "is failed in its row, but finished in the event chain"),
        ("UPDATE participants SET public_key = 'ff' WHERE id = 1", "participants"),
        ("UPDATE model_versions SET metric = 1.0", "models of run"),
        ("DELETE FROM model_versions", "models of run"),
    ],
)
def test_changed_row_is_named(registry: Registry, models: Path, tmp_path: Path, statement: str, complaint: str) -> None:
    tamper(tmp_path, statement)
    audit = verify_registry(registry, models)
    assert len(audit.failed) == 1
    assert complaint in audit.failed[0]


def test_broken_chain_is_named(registry: Registry, models: Path, tmp_path: Path) -> None:
    tamper(tmp_path, "DROP TRIGGER events_no_update")
    tamper(tmp_path, "UPDATE events SET at = '2001-01-01 00:00:00.000000' WHERE sequence = 6")
    assert [text.split(" (")[0] for text in verify_registry(registry, models).failed] == ["event 6"]


NO_BODIES = ["[]", "{}", "[" * 100_000, '{"state":1,"reason":[]}']
KINDS = ["run-state", "run-submitted", "round-finished", "model-released", "participant-joined"]


@pytest.mark.parametrize(("kind", "body"), [*((kind, "x") for kind in KINDS), *(("run-state", body) for body in NO_BODIES)])
def test_edited_event_is_a_broken_chain(registry: Registry, models: Path, tmp_path: Path, kind: str, body: str) -> None:
    tamper(tmp_path, "DROP TRIGGER events_no_update")
    tamper(tmp_path, f"UPDATE events SET body = '{body}' WHERE kind = '{kind}'")
    failed = verify_registry(registry, models).failed
    assert len(failed) == 2 and "is not what was written" in failed[0]


@pytest.mark.parametrize("column", ["hash", "previous_hash"])
def test_hash_that_is_none_is_a_broken_chain(registry: Registry, models: Path, tmp_path: Path, column: str) -> None:
    tamper(tmp_path, "DROP TRIGGER events_no_update")
    tamper(tmp_path, f"UPDATE events SET {column} = 'no hash' WHERE sequence = 6")
    assert [text.split(" (")[0] for text in verify_registry(registry, models).failed] == ["event 6"]


def test_signer_that_is_no_key_is_named(registry: Registry, models: Path, tmp_path: Path) -> None:
    tamper(tmp_path, "UPDATE model_versions SET signer = 'nobody'")
    assert any("its signer is no key" in text for text in verify_registry(registry, models).failed)


def test_changed_model_file_is_named(registry: Registry, models: Path) -> None:
    (models / "triage" / "1" / "README.md").write_text("better than it is")
    (complaint,) = verify_registry(registry, models).failed
    assert "README.md: changed after the release" in complaint


def test_model_that_is_elsewhere_is_named(registry: Registry, models: Path, tmp_path: Path) -> None:
    (complaint,) = verify_registry(registry, tmp_path / "elsewhere").failed
    assert "no readable manifest" in complaint


def test_run_without_a_model_leaves_a_gap_that_is_told(registry: Registry, running: str, tmp_path: Path) -> None:
    audit = verify_registry(registry, tmp_path, running)
    assert audit.ok
    assert f"Run {running} released no model, so there are no files to compare." in audit.unproved
