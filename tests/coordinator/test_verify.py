"""The audit proves what it can, names what is wrong, and admits the rest."""

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.errors import ChainBroken
from coordinator.registry import Registry
from coordinator.registry.records import ModelVersion
from coordinator.release import TrainedModel
from coordinator.submitted_plan import check_plan, kept_for
from coordinator.verify import NOT_COUNTED, NOT_PROVED, UNKNOWN_KEYS, verify_registry
from protocols.audit import Audit
from protocols.plan import Plan
from tests.coordinator.conftest import BASE


@pytest.fixture
def models(release: Callable[[], ModelVersion], tmp_path: Path) -> Path:
    release()
    return tmp_path / "models"


ADDED = "INSERT INTO participants (id, name, public_key, joined_at) VALUES (9, 'zoe', 'ff', '2030-01-01 00:00:00.0')"


def tamper(tmp_path: Path, statement: str) -> None:
    connection = sqlite3.connect(tmp_path / "registry.db")
    connection.execute(statement)
    connection.commit()
    connection.close()


def wrong(audit: Audit) -> list[str]:
    """What is wrong beside that the finished run of these tests left no transcripts."""
    return [sentence for sentence in audit.failed if "none of its transcripts" not in sentence]


def test_untouched_registry_is_proved(registry: Registry, models: Path, trained: TrainedModel) -> None:
    audit = verify_registry(registry, models)
    assert wrong(audit) == []
    sums = models.parent / "runs" / trained.run / "sums"
    assert audit.failed == [f"run {trained.run} is finished, and none of its transcripts is in {sums}; restore a backup"]
    assert [*NOT_PROVED, UNKNOWN_KEYS, NOT_COUNTED] == audit.unproved[: len(NOT_PROVED) + 2]
    assert audit.unproved[-1] == f"Events 1 to {registry.head().length} of the chain: no institution countersigned them."
    told = "\n".join(audit.proved)
    for text in ("event chain is whole", "4 institutions", f"3 rounds of run {trained.run}, with 6 transcript hashes", "model triage 1"):
        assert text in told


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("UPDATE rounds SET metric = 0.99 WHERE number = 2", "`rounds` of run triage-01020304, number 2: `metric` not as"),
        ("UPDATE rounds SET transcripts = '[]' WHERE number = 1", "number 1: `transcripts` not as"),
        ("UPDATE rounds SET figures = NULL WHERE number = 2", "number 2: `figures` not as"),
        ("DELETE FROM contributions WHERE id = 1", "number 0: `contributions` not as"),
        ("UPDATE contributions SET missing_from = NULL", "number 0: `contributions` not as"),
        ("DELETE FROM rounds WHERE number = 1", "number 1: an event of the chain says that it was written, and there is no such row"),
        (ADDED, "name zoe: there is a row, and no event"),
        ("UPDATE runs SET seed = 7", "`runs` of run triage-01020304: `seed` not as"),
        ("UPDATE runs SET state = 'failed'", "is failed in its row, but finished in the event chain"),
        ("UPDATE runs SET reason = 'none'", "`reason` in its row is not what the event chain says"),
        ("UPDATE runs SET wanted = 'stopped'", "`wanted` in its row is not what the event chain says"),
        ("UPDATE runs SET plan = replace(plan, '\"rounds\":2', '\"rounds\":3')", "`plan` in its row is not the plan with hash"),
        ("UPDATE runs SET plan = 'rounds = 3'", "`plan` in its row is not the plan with hash"),
        ("DELETE FROM runs", "`runs` has no row of run triage-01020304"),
        ("UPDATE participants SET public_key = 'ff' WHERE id = 1", "`participants`, name amber: `public_key` not as"),
        ("DELETE FROM model_versions", "`model_versions` of run triage-01020304, name version triage 1: an event"),
        ("UPDATE model_versions SET metric = 1.0", "name version triage 1: `metric` not as"),
    ],
)  # fmt: skip
def test_changed_row_is_named(registry: Registry, models: Path, tmp_path: Path, statement: str, complaint: str) -> None:
    tamper(tmp_path, statement)
    (failure,) = wrong(verify_registry(registry, models))
    assert complaint in failure


def test_emptied_registry_is_found(registry: Registry, models: Path, tmp_path: Path) -> None:
    for table in ("runs", "rounds", "model_versions", "contributions", "participants"):
        tamper(tmp_path, f"DELETE FROM {table}")
    audit = verify_registry(registry, models)
    assert [text.split(":")[0].split(" of run")[0] for text in audit.failed] == ["`participants`, name amber", "`runs` has no row"]
    assert not any(sentence.startswith(("0 ", "The keys of 0")) for sentence in audit.proved)


UNREADABLE = [
    ("UPDATE participants SET joined_at = 'never' WHERE id = 2", "row 2 of `participants` is not readable"),
    ("UPDATE participants SET name = x'ff' WHERE id = 2", "row 2 of `participants`: name is no value of its kind"),
    ("UPDATE runs SET created_at = 'x'", "row 1 of `runs` is not readable"),
    ("UPDATE runs SET ended_at = 7", "row 1 of `runs` is not readable"),
    ("UPDATE runs SET seed = 'many'", "row 1 of `runs`: seed is no value of its kind"),
    ("UPDATE rounds SET finished_at = '2030-13-01' WHERE number = 1", "row 2 of `rounds` is not readable"),
    ("UPDATE rounds SET transcripts = '{' WHERE number = 1", "row 2 of `rounds` is not readable"),
    ("UPDATE rounds SET transcripts = '7' WHERE number = 1", "row 2 of `rounds` is not readable"),
    ("UPDATE rounds SET experts = '[1]' WHERE number = 1", "row 2 of `rounds` is not readable"),
    ("UPDATE rounds SET figures = '{\"acceptance\": null}' WHERE number = 1", "row 2 of `rounds` is not readable"),
    ("UPDATE rounds SET number = 'one' WHERE number = 1", "row 2 of `rounds`: number is no value of its kind"),
    ("UPDATE contributions SET bytes_up = 'much' WHERE id = 3", "row 3 of `contributions`: bytes_up is no value of its kind"),
    ("DELETE FROM participants WHERE id = 1", "row 1 of `contributions` names participant 1, which has no row"),
    ("UPDATE contributions SET participant_id = 77 WHERE id = 3", "row 3 of `contributions` names participant 77, which has no row"),
    ("UPDATE model_versions SET released_at = ''", "row 1 of `model_versions` is not readable"),
    ("UPDATE rounds SET run_id = 77 WHERE number = 1", "number 1: an event of the chain says that it was written"),
    ("UPDATE model_versions SET run_id = 77", "name version triage 1: an event of the chain says that it was written"),
]


@pytest.mark.parametrize(("statement", "complaint"), UNREADABLE)
def test_unreadable_row_is_named_and_the_others_are_looked_at(
    registry: Registry, models: Path, tmp_path: Path, statement: str, complaint: str
) -> None:
    tamper(tmp_path, statement)
    audit = verify_registry(registry, models)
    assert any(complaint in sentence for sentence in wrong(audit)), audit.failed
    assert len(audit.proved) >= 3 and len(wrong(audit)) <= 2


@pytest.mark.parametrize("value", ["'some day'", "x'00'", "7"])
def test_event_that_is_not_readable_is_a_broken_chain(registry: Registry, models: Path, tmp_path: Path, value: str) -> None:
    tamper(tmp_path, "DROP TRIGGER events_no_update")
    tamper(tmp_path, f"UPDATE events SET at = {value} WHERE sequence = 6")
    assert wrong(verify_registry(registry, models))[0].startswith("event 6 (unreadable) is not what was written")


def test_model_of_a_run_without_a_row_is_named(registry: Registry, models: Path, tmp_path: Path) -> None:
    tamper(tmp_path, "DELETE FROM runs")
    with pytest.raises(ChainBroken, match="names run 1, which has no row"):
        registry.model_versions()


def test_plan_may_be_the_text_that_was_submitted(registry: Registry, models: Path, plan: Plan) -> None:
    (run,) = registry.runs()
    text = "rounds = 2\nname = 'triage'\nbase = { name = 'tiny', sha256 = '" + BASE + "' }\n"
    text += "[records]\nprompt = 'note: {note}'\ntarget = ' {code}'\n"
    assert check_plan(replace(run, plan=text)) == json.loads(plan.canonical())
    assert kept_for(replace(run, plan=text)) == 2 and kept_for(replace(run, plan="{}")) == 0


def test_broken_chain_is_named(registry: Registry, models: Path, tmp_path: Path) -> None:
    tamper(tmp_path, "DROP TRIGGER events_no_update")
    tamper(tmp_path, "UPDATE events SET at = '2001-01-01 00:00:00.000000' WHERE sequence = 6")
    assert [text.split(" (")[0] for text in wrong(verify_registry(registry, models))] == ["event 6"]


NO_BODIES = ["[]", "{}", "[" * 100_000, '{"state":1,"reason":[]}']
KINDS = ["run-state", "run-submitted", "round-finished", "model-released", "participant-joined"]


@pytest.mark.parametrize(("kind", "body"), [*((kind, "x") for kind in KINDS), *(("run-state", body) for body in NO_BODIES)])
def test_edited_event_is_a_broken_chain(registry: Registry, models: Path, tmp_path: Path, kind: str, body: str) -> None:
    tamper(tmp_path, "DROP TRIGGER events_no_update")
    tamper(tmp_path, f"UPDATE events SET body = '{body}' WHERE kind = '{kind}'")
    failed = wrong(verify_registry(registry, models))
    assert len(failed) == 2 and "is not what was written" in failed[0]


@pytest.mark.parametrize("column", ["hash", "previous_hash"])
def test_hash_that_is_none_is_a_broken_chain(registry: Registry, models: Path, tmp_path: Path, column: str) -> None:
    tamper(tmp_path, "DROP TRIGGER events_no_update")
    tamper(tmp_path, f"UPDATE events SET {column} = 'no hash' WHERE sequence = 6")
    assert [text.split(" (")[0] for text in wrong(verify_registry(registry, models))] == ["event 6"]


def test_signer_that_is_no_key_is_named(registry: Registry, models: Path, tmp_path: Path) -> None:
    tamper(tmp_path, "UPDATE model_versions SET signer = 'nobody'")
    assert any("its signer is no key" in text for text in verify_registry(registry, models).failed)


def test_changed_model_file_is_named(registry: Registry, models: Path) -> None:
    (models / "triage" / "1" / "README.md").write_text("better than it is")
    (complaint,) = wrong(verify_registry(registry, models))
    assert "README.md: changed after the release" in complaint


def test_model_that_is_elsewhere_is_named(registry: Registry, models: Path, tmp_path: Path) -> None:
    (complaint,) = wrong(verify_registry(registry, tmp_path / "elsewhere"))
    assert "no readable manifest" in complaint


def test_run_without_a_model_leaves_a_gap_that_is_told(registry: Registry, running: str, tmp_path: Path) -> None:
    audit = verify_registry(registry, tmp_path, running)
    assert audit.ok
    assert f"Run {running} released no model, so there are no files to compare." in audit.unproved
