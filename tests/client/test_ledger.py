"""The ledger: one answer, one promise, nothing half-written, no foreign database."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from client.errors import LedgerError, StorageError
from client.ledger import Ledger
from client.ledger_rows import FinishedSum, StoredReply
from protocols.errors import Contradiction, Refusal
from tests.federation.federation import Crash

VECTOR = np.arange(5, dtype=np.uint32).tobytes()

FIRST_VERSION = """
DROP TABLE replies; DROP TABLE claims; DROP TABLE evidence; PRAGMA user_version = 0;
CREATE TABLE replies (key TEXT PRIMARY KEY, request BLOB NOT NULL, reply BLOB NOT NULL, arrays BLOB NOT NULL) STRICT;
CREATE TABLE evidence (id INTEGER PRIMARY KEY, key TEXT NOT NULL, request BLOB NOT NULL, at TEXT NOT NULL) STRICT;
CREATE TABLE claims (claim TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
INSERT INTO replies VALUES ('key', CAST('request' AS BLOB), CAST('reply' AS BLOB), CAST('arrays' AS BLOB));
INSERT INTO evidence VALUES (1, 'key', CAST('other' AS BLOB), '2030-01-01');
INSERT INTO claims VALUES ('slot', CAST('manifest' AS BLOB));
"""


def now() -> datetime:
    return datetime(2030, 1, 1, tzinfo=UTC)


def die(*_: object, **__: object) -> None:
    raise Crash


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "home", now)
    yield opened
    opened.close()


def test_answer_is_kept_and_another_request_is_refused_and_kept(ledger: Ledger) -> None:
    stored = StoredReply(b"request", b"reply")
    ledger.keep_reply("key", stored)
    assert ledger.reply("key", b"request") == stored and ledger.reply("other", b"request") is None
    with pytest.raises(Refusal, match="another request"):
        ledger.reply("key", b"changed")
    assert ledger.evidence() == [("key", b"changed", b"request")]


def test_claim_binds_once(ledger: Ledger) -> None:
    ledger.claim("slot", b"one", "used", b"request")
    ledger.claim("slot", b"one", "used", b"another request")
    with pytest.raises(Contradiction, match="used") as raised:
        ledger.claim("slot", b"two", "used", b"contradiction")
    assert raised.value.earlier == b"request"
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
    ledger.vectors.keep("run", 1, "update", b"state", VECTOR)
    kept = ledger.vectors.kept("run", 1, "update", b"state")
    assert kept is not None and kept.tobytes() == VECTOR
    with pytest.raises(Refusal, match="another state"):
        ledger.vectors.kept("run", 1, "update", b"other")
    ledger.finish_sum(FinishedSum("run", 1, "update", b"t", b"s", 3, ""), keep_training=False)
    assert ledger.vectors.kept("run", 1, "update", b"state") is None
    assert not list((ledger.home / "vectors").rglob("*.u32"))
    assert [(done.round, done.institutions) for done in ledger.finished_sums("run")] == [(1, 3)]


def test_damaged_vector_is_refused(ledger: Ledger) -> None:
    ledger.vectors.keep("run", 1, "update", b"state", VECTOR)
    (ledger.home / "vectors" / "run" / "1-update.u32").write_bytes(b"other")
    with pytest.raises(LedgerError, match="damaged"):
        ledger.vectors.kept("run", 1, "update", b"state")


def test_ledger_opens_again_but_not_with_another_database(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Ledger.open(tmp_path / name, now).close()
    Ledger.open(tmp_path / "a", now).close()
    shutil.copy(tmp_path / "a" / "ledger.db", tmp_path / "b" / "ledger.db")
    with pytest.raises(LedgerError, match="do not belong together"):
        Ledger.open(tmp_path / "b", now)


def test_ledger_that_holds_fewer_promises_than_were_made_is_not_opened(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path, now)
    ledger.claim("slot", b"manifest", "used")
    ledger.claim("slot", b"manifest", "used")
    ledger.close()
    assert (tmp_path / "promises").read_text() == "1\n"
    (tmp_path / "promises").write_text("0\n")  # as after a crash between the database and the file
    Ledger.open(tmp_path, now).close()
    (tmp_path / "promises").write_text("2\n")
    with pytest.raises(LedgerError, match="holds 1 promises of 2"):
        Ledger.open(tmp_path, now)


@pytest.mark.parametrize(
    ("content", "complaint"), [(None, "is missing"), (b"", "not the number"), (b"many", "not the number"), (b"\xff", "not the")]
)
def test_count_of_promises_that_is_missing_or_none_is_refused(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    ledger = Ledger.open(tmp_path, now)
    assert (tmp_path / "promises").read_text() == "0\n"
    ledger.claim("slot", b"manifest", "used")
    ledger.close()
    (tmp_path / "promises").unlink()
    if content is not None:
        (tmp_path / "promises").write_bytes(content)
    for look in (Ledger.open, Ledger.look):
        with pytest.raises(LedgerError, match=complaint):
            look(tmp_path, now)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe 1\n", b"some words"])
def test_incarnation_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes) -> None:
    Ledger.open(tmp_path, now).close()
    (tmp_path / "incarnation").write_bytes(content)
    with pytest.raises(LedgerError, match="do not belong together"):
        Ledger.open(tmp_path, now)


def test_ledger_whose_first_opening_was_cut_short_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("client.ledger_file.write_file", die)
        with pytest.raises(Crash):
            Ledger.open(tmp_path, now)
    Ledger.open(tmp_path, now).close()
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute("DELETE FROM meta WHERE name = 'incarnation'")
    database.close()
    Ledger.open(tmp_path, now).close()
    (tmp_path / "ledger.db").unlink()
    with pytest.raises(LedgerError, match="do not belong together"):
        Ledger.open(tmp_path, now)


def test_run_is_bound_to_one_plan(ledger: Ledger) -> None:
    ledger.accept_run("run", b"plan")
    ledger.accept_run("run", b"plan")
    with pytest.raises(Refusal, match="another plan"):
        ledger.accept_run("run", b"changed")


def test_ledger_of_the_first_version_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Ledger.open(tmp_path, now).close()
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.executescript(FIRST_VERSION)
    database.close()
    (tmp_path / "promises").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("client.ledger_file.make_tables", die)
        with pytest.raises(Crash):
            Ledger.open(tmp_path, now)
    assert (tmp_path / "promises").read_text() == "1\n"  # before the version changes, or a crash would leave a ledger that is refused
    ledger = Ledger.open(tmp_path, now)
    assert ledger.reply("key", b"request") == StoredReply(b"request", b"reply")
    assert ledger.claimed("slot") == b"manifest"
    assert ledger.evidence() == [("key", b"other", b"")]
    ledger.keep_reply("another", StoredReply(b"request", b"reply"))
    ledger.claim("another", b"manifest", "used", b"request")
    ledger.close()
    Ledger.open(tmp_path, now).close()


def test_a_vector_for_which_there_is_no_room_leaves_nothing(ledger: Ledger) -> None:
    pages = ledger._database.execute("PRAGMA page_count").fetchone()[0]
    ledger._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="free space on its disk"):
        keep_many(ledger)
    kept = len(ledger.vectors.all())
    assert len(list((ledger.home / "vectors" / "r1").iterdir())) == kept, "a file without a row"
    ledger._database.execute("PRAGMA max_page_count = 100000")
    ledger.vectors.keep("r1", kept, "update", bytes(32), b"vector")


def keep_many(ledger: Ledger) -> None:
    for number in range(1000):
        ledger.vectors.keep("r1", number, "update", bytes(32), b"vector")


def test_a_commit_that_fails_leaves_no_transaction_open(ledger: Ledger) -> None:
    class Full(sqlite3.Connection):
        full = True

        def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
            if statement == "COMMIT" and self.full:
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(statement, *values)  # type: ignore[arg-type]

    database = sqlite3.connect(ledger.home / "ledger.db", isolation_level=None, factory=Full)
    other = Ledger(ledger.home, database, ledger.incarnation, now)
    with pytest.raises(StorageError, match="disk is full"):
        other.vectors.keep("r1", 1, "update", bytes(32), b"vector")
    database.full = False
    assert not other.vectors.all()
    other.vectors.keep("r1", 1, "update", bytes(32), b"vector")
    other.close()
