"""Records of sums: what a file holds is never replaced by something else, and damage is said in a sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from coordinator.errors import JobError
from coordinator.store import RunStore
from coordinator.sum_record import SumRecord
from protocols.schedule import planned_sums
from protocols.secagg import SurvivorProposal
from tests.federation.crashes.lives import PLAN
from tests.federation.federation import NAMES, Federation


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run."""
    federation = Federation(tmp_path_factory.mktemp("federation"), PLAN)
    result = federation.run()
    federation.close()
    return federation.directory / "runs" / result.run


@pytest.fixture
def finished(run: Path, tmp_path: Path) -> SumRecord:
    record = RunStore(shutil.copytree(run, tmp_path / "run")).published
    assert record is not None
    return record


def test_nothing_is_replaced(finished: SumRecord) -> None:
    proposal, transcript, opened = finished.proposal, finished.transcript, finished.opened
    assert proposal is not None and transcript is not None and opened is not None
    finished.freeze(proposal)
    with pytest.raises(JobError, match="another proposal"):
        finished.freeze(SurvivorProposal(proposal.manifest_hash, dict.fromkeys(NAMES[:3], bytes(32))))
    with pytest.raises(JobError, match="another total"):
        finished.keep_outcome(transcript, opened, [bytes(len(finished.total))], {})
    with pytest.raises(JobError, match="another manifest"):
        SumRecord.begin(finished.folder, RunStore(finished.folder.parents[1]).records[0].manifest, finished.chain)
    assert finished.proposal == proposal and finished.transcript == transcript


def test_what_is_there_already_is_on_disk_before_it_counts(finished: SumRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("coordinator.sum_record.sync_directory", synced.append)
    assert finished.proposal is not None
    finished.freeze(finished.proposal)  # of a process that died after the rename and before it was on disk
    assert synced == [finished.folder]


@pytest.mark.parametrize("name", ["manifest", "proposal", "certificate", "transcript", "opened"])
def test_damaged_file_is_one_sentence(finished: SumRecord, name: str) -> None:
    path = finished.folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(JobError, match=f"{name} is damaged"):
        getattr(finished, name)


def test_what_a_killed_process_left_half_written_is_no_answer(tmp_path: Path) -> None:
    record = SumRecord(tmp_path)
    record.keep_answer("unmask", "ada", b"answer")
    (path,) = (tmp_path / "unmask").iterdir()
    (tmp_path / "unmask" / f".{path.name}.k1ll3d").write_bytes(path.read_bytes()[:-1])
    assert record.answers("unmask") == {"ada": b"answer"}


def test_attempt_that_no_journal_names_is_not_begun_again(tmp_path: Path) -> None:
    store, planned = RunStore(tmp_path), planned_sums(PLAN)[0]
    assert store.next_attempt(planned) == 1
    store.record_path(planned, 1).mkdir(parents=True)
    assert store.next_attempt(planned) == 2
    store.update(attempt=2)
    assert store.next_attempt(planned) == 3


def test_members_that_did_not_confirm_are_named(finished: SumRecord) -> None:
    assert finished.unconfirmed == set() and set(finished.confirmations) == set(NAMES)
    (finished.folder / "confirmations").unlink()
    assert finished.unconfirmed == set(NAMES)
