"""The ledger: one answer, one promise, nothing half-written, no foreign database."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.errors import LedgerError
from client.ledger import FinishedSum, Ledger, StoredReply
from protocols.errors import Refusal


def now() -> datetime:
    return datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "home", now)
    yield opened
    opened.close()


def test_answer_is_kept_and_another_request_is_refused_and_kept(ledger: Ledger) -> None:
    stored = StoredReply(b"request", b"reply", b"arrays")
    ledger.keep_reply("key", stored)
    assert ledger.reply("key", b"request") == stored and ledger.reply("other", b"request") is None
    with pytest.raises(Refusal, match="another request"):
        ledger.reply("key", b"changed")
    assert ledger.evidence() == [("key", b"changed")]


def test_claim_binds_once(ledger: Ledger) -> None:
    ledger.claim("slot", b"one", "used")
    ledger.claim("slot", b"one", "used")
    with pytest.raises(Refusal, match="used"):
        ledger.claim("slot", b"two", "used")
    assert ledger.claimed("slot") == b"one"


def test_failed_transaction_leaves_nothing(ledger: Ledger) -> None:
    def fail() -> None:
        with ledger.transaction():
            ledger.claim("a", b"1", "")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert ledger.claimed("a") is None


def test_vector_is_of_one_state_and_is_erased_with_its_sum(ledger: Ledger) -> None:
    ledger.keep_vector("run", 1, "update", b"state", b"vector")
    assert ledger.vector("run", 1, "update", b"state") == b"vector"
    with pytest.raises(Refusal, match="another state"):
        ledger.vector("run", 1, "update", b"other")
    ledger.keep_reply("run/1/update/1/train.sum", StoredReply(b"q", b"r", b"masked"))
    ledger.finish_sum(FinishedSum("run", 1, "update", b"t", b"s", 3, ""))
    assert ledger.vector("run", 1, "update", b"state") is None
    assert not list((ledger.home / "vectors").rglob("*.u32"))
    kept = ledger.reply("run/1/update/1/train.sum", b"q")
    assert kept is not None and kept.arrays == b""
    assert [(done.round, done.institutions) for done in ledger.finished_sums("run")] == [(1, 3)]


def test_finished_sum_leaves_the_answers_of_runs_with_similar_names(ledger: Ledger) -> None:
    for run in ("a_b", "a-b", "a_bc"):
        ledger.keep_reply(f"{run}/1/update/1/train.sum", StoredReply(b"q", b"r", b"masked"))
    ledger.finish_sum(FinishedSum("a_b", 1, "update", b"t", b"s", 3, ""))
    kept = {run: ledger.reply(f"{run}/1/update/1/train.sum", b"q") for run in ("a_b", "a-b", "a_bc")}
    assert {run: stored and stored.arrays for run, stored in kept.items()} == {"a_b": b"", "a-b": b"masked", "a_bc": b"masked"}


def test_damaged_vector_is_refused(ledger: Ledger) -> None:
    ledger.keep_vector("run", 1, "update", b"state", b"vector")
    (ledger.home / "vectors" / "run" / "1-update.u32").write_bytes(b"other")
    with pytest.raises(LedgerError, match="damaged"):
        ledger.vector("run", 1, "update", b"state")


def test_ledger_opens_again_but_not_with_another_database(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Ledger.open(tmp_path / name, now).close()
    Ledger.open(tmp_path / "a", now).close()
    shutil.copy(tmp_path / "a" / "ledger.db", tmp_path / "b" / "ledger.db")
    with pytest.raises(LedgerError, match="do not belong together"):
        Ledger.open(tmp_path / "b", now)


def test_run_is_bound_to_one_plan(ledger: Ledger) -> None:
    ledger.accept_run("run", b"plan")
    ledger.accept_run("run", b"plan")
    with pytest.raises(Refusal, match="another plan"):
        ledger.accept_run("run", b"changed")
