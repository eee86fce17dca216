"""What a node has decided, on disk before it answers: SQLite, write-ahead log, `synchronous = FULL`, one writer.

A repeated request gets the stored bytes. A different request under the same key is refused and both are kept as evidence.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

from client import accepted, heads, privacy_ledger, returning, vectors
from client.digests import Digests
from client.errors import LedgerError
from client.ledger_file import begin_incarnation, check_promises, checked_incarnation, look_at_database, note_promises, open_database
from client.ledger_rows import Challenge, Evidence, FinishedSum, Position, StoredEpoch, StoredReply
from client.ledger_tables import BEFORE_TRANSCRIPTS, TABLES
from protocols.errors import Contradiction, Refusal

MOST_EVIDENCE = 8  # of one key: a coordinator cannot fill the disk with contradictions


class Ledger:
    """One institution's own record of every request, answer and decision."""

    def __init__(self, home: Path, database: sqlite3.Connection, incarnation: int, clock: Callable[[], datetime]) -> None:
        self.home = home
        self.incarnation = incarnation
        self._database = database
        self._clock = clock
        self._depth = 0
        self._erasing = False
        self._promising = False
        self.digests = Digests()  # of states
        check_promises(database, home)
        self.accepted = accepted.AcceptedPlans(database, self.transaction, self.now)
        self.heads = heads.Heads(database, self._write)
        self.vectors = vectors.Vectors(home, database, self.transaction)
        self.privacy = privacy_ledger.PrivacyLedger(database, self.transaction, self.now)
        self.returning = returning.ReturningRuns(home, database, self.transaction, incarnation)

    @classmethod
    def open(cls, home: Path, clock: Callable[[], datetime]) -> Ledger:
        """Opens or begins the ledger in `home`.

        Raises:
            LedgerError: the database is damaged, or is not the one that the files `incarnation` and `promises` beside it belong to.
        """
        modules = (accepted, heads, vectors, privacy_ledger, returning)
        database = open_database(home, TABLES + "".join(module.TABLES for module in modules))
        try:
            begin_incarnation(database, home)
            ledger = cls(home, database, checked_incarnation(database, home), clock)
        except LedgerError:
            database.close()  # else its write-ahead log would lie beside whatever file is put in its place
            raise
        ledger._erase_rest()
        return ledger

    @classmethod
    def look(cls, home: Path, clock: Callable[[], datetime]) -> Ledger:
        """A ledger to read from; nothing in `home` is made or changed, and a node may be at work on it.

        Raises:
            LedgerError: there is none, or as `open`.
        """
        database = look_at_database(home)
        return cls(home, database, checked_incarnation(database, home), clock)

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside are committed together, or none; nested uses join the outer one."""
        if self._depth == 0:
            self._database.execute("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            if self._depth == 0:
                self._roll_back()
            raise
        self._depth -= 1
        if self._depth == 0:
            self._commit()
            if self._promising:
                self._promising = False
                note_promises(self._database, self.home)
            if self._erasing:
                self._erase_rest()

    def _commit(self) -> None:
        try:
            self._database.execute("COMMIT")
        except sqlite3.Error:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        """The next transaction must find none open; where the disk is full, SQLite may have ended this one itself."""
        self._erasing = self._promising = False
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def _erase_rest(self) -> None:
        """What rows no longer hold is gone from the files too: vectors without a row, and earlier pages in the write-ahead log."""
        self._erasing = False
        with self.transaction():  # no other process is between a vector's file and its row
            self.vectors.remove_files()
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def today(self) -> date:
        """The date on this institution's own clock."""
        return self._clock().date()

    def now(self) -> str:
        """The time on this institution's own clock: ISO 8601, to the second."""
        return self._clock().isoformat(timespec="seconds")

    # Requests and answers.

    def reply(self, key: str, request: bytes) -> StoredReply | None:
        """The stored answer under `key`, if there is one.

        Raises:
            Refusal: another request was answered under this key; this one is kept beside it.
        """
        row = self._database.execute("SELECT request, reply FROM replies WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        if row[0] != request:
            self.keep_evidence(key, request, row[0])
            raise Refusal(f"another request was already answered as {key}; both are kept as evidence")
        return StoredReply(*row)

    def keep_reply(self, key: str, stored: StoredReply) -> None:
        self._write("INSERT INTO replies VALUES (?, ?, ?)", key, stored.request, stored.reply)

    def keep_evidence(self, key: str, request: bytes, earlier: bytes) -> None:
        """Keeps a signed request with the earlier one that it contradicts; no more of one key than it takes to show a pattern."""
        (count,) = self._database.execute("SELECT count(*) FROM evidence WHERE key = ?", (key,)).fetchone()
        if count >= MOST_EVIDENCE:
            return
        self._write("INSERT INTO evidence (key, request, earlier, at) VALUES (?, ?, ?, ?)", key, request, earlier, self.now())

    def evidence(self) -> list[Evidence]:
        """Requests that were refused because of what had been answered before."""
        return [Evidence(*row) for row in self._database.execute("SELECT key, request, earlier FROM evidence ORDER BY id")]

    def keep_proof(self, run: str, proof: bytes) -> None:
        """Keeps proof that a run's coordinator published what is wrong; the institution takes no further part in the run."""
        self._write("INSERT INTO proofs (run, proof, at) VALUES (?, ?, ?)", run, proof, self.now())

    def proofs(self) -> list[tuple[str, bytes]]:
        """Run and proof of every fault that was found."""
        return list(self._database.execute("SELECT run, proof FROM proofs ORDER BY id"))

    def is_stopped(self, run: str) -> bool:
        """Whether there is a proof against the run."""
        return self._database.execute("SELECT 1 FROM proofs WHERE run = ?", (run,)).fetchone() is not None

    # Runs and epochs.

    def accept_run(self, run: str, plan: bytes) -> None:
        """Raises Refusal when the run was accepted with another plan."""
        stored = self.plan(run)
        if stored is None:
            self._write("INSERT INTO runs VALUES (?, ?, ?)", run, plan, self.now())
        elif stored != plan:
            raise Refusal(f"run {run} was accepted with another plan; submit the changed plan as a new run")

    def plan(self, run: str) -> bytes | None:
        """Canonical bytes of the plan that was accepted for a run."""
        row = self._database.execute("SELECT plan FROM runs WHERE run = ?", (run,)).fetchone()
        return bytes(row[0]) if row else None

    def runs(self) -> tuple[str, ...]:
        """Ids of all runs that were accepted, the oldest first."""
        return tuple(row[0] for row in self._database.execute("SELECT run FROM runs ORDER BY rowid"))

    def keep_epoch(self, run: str, epoch: int, stored: StoredEpoch) -> None:
        """Replaces the former stage, so that what it held secret is gone."""
        self._erasing = True
        self._write("INSERT OR REPLACE INTO epochs VALUES (?, ?, ?, ?, ?)", run, epoch, stored.manifest, stored.stage, stored.state)

    def epoch(self, run: str, epoch: int) -> StoredEpoch | None:
        row = self._database.execute("SELECT manifest, stage, state FROM epochs WHERE run = ? AND epoch = ?", (run, epoch)).fetchone()
        return StoredEpoch(*row) if row else None

    def has_forgotten(self, run: str, epoch: int) -> bool:
        """Whether this institution may have sent something in an epoch that its restored ledger does not hold."""
        stored = self.epoch(run, epoch)
        return self.incarnation != returning.FIRST and (stored is None or stored.stage == returning.ABANDONED)

    def epochs(self, run: str) -> list[int]:
        """Numbers of the run's epochs."""
        return [row[0] for row in self._database.execute("SELECT epoch FROM epochs WHERE run = ? ORDER BY epoch", (run,))]

    # Promises that are made once.

    def claim(self, claim: str, value: bytes, sentence: str, request: bytes = b"") -> None:
        """Binds `claim` to `value` for ever, as the signed `request` asked: slot to manifest, state and kind of sum to the set.

        Raises:
            Contradiction: with `sentence`, when it is bound to another value.
        """
        row = self._database.execute("SELECT value, request FROM claims WHERE claim = ?", (claim,)).fetchone()
        if row is None:
            with self.transaction():
                self._promising = True
                self._write("INSERT INTO claims VALUES (?, ?, ?)", claim, value, request)
        elif row[0] != value:
            raise Contradiction(sentence, row[1])

    def claimed(self, claim: str) -> bytes | None:
        """What `claim` is bound to."""
        row = self._database.execute("SELECT value FROM claims WHERE claim = ?", (claim,)).fetchone()
        return bytes(row[0]) if row else None

    def narrow_survivors(self, epoch_hash: bytes, members: Collection[str]) -> None:
        """Binds an epoch's later sets to lie within `members`.

        Raises:
            Contradiction: an earlier set of this epoch left one of them out.
        """
        row = self._database.execute("SELECT members FROM survivors WHERE epoch_hash = ?", (epoch_hash,)).fetchone()
        back = sorted(set(members) - set(row[0].split("\n"))) if row else []
        if back:
            raise Contradiction(f"{', '.join(back)} was left out by an earlier set of this epoch and returns at the next one")
        self._write("INSERT OR REPLACE INTO survivors VALUES (?, ?)", epoch_hash, "\n".join(sorted(members)))

    def challenge(self, transcript: bytes) -> Challenge | None:
        """What was drawn for the transcript with this hash."""
        row = self._database.execute("SELECT chunks, committed FROM challenges WHERE transcript = ?", (transcript,)).fetchone()
        return Challenge(*row) if row else None

    def keep_challenge(self, transcript: bytes, drawn: Challenge) -> None:
        """Drawn once: who could ask for another draw would ask until it is shown what is right."""
        self._write("INSERT INTO challenges VALUES (?, ?, ?)", transcript, *drawn)

    # Where runs stand.

    def keep_position(self, run: str, position: Position) -> None:
        """Where the run stands now; the state's file is `state_path`."""
        self._write("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)", run, *position)

    def position(self, run: str) -> Position | None:
        """None at the run's start."""
        row = self._database.execute("SELECT state_hash, transcript, finished FROM positions WHERE run = ?", (run,)).fetchone()
        return Position(*row) if row else None

    def state_path(self, run: str, state_hash: bytes) -> Path:
        return self.home / "states" / run / f"{state_hash.hex()}.safetensors"

    def finish_sum(self, finished: FinishedSum, keep_training: bool) -> None:
        """Records a sum and erases what only it, and those before it, needed, in one transaction: vectors, and what was drawn.

        The training of a round outlives its pre-round, and any sum that another one of the same work follows.
        """
        with self.transaction():
            self._erasing = True
            fields = (finished.run, finished.round, finished.sum, finished.transcript, finished.state_hash, finished.institutions)
            self._write("INSERT OR REPLACE INTO sums VALUES (?, ?, ?, ?, ?, ?, ?)", *fields, self.now())
            # An answer that opened shares is gone with them; asked again, the node says that the sum is over.
            opened = (f"{finished.run}/{finished.round}/{finished.sum}/", "/query.unmask")
            self._write("DELETE FROM replies WHERE instr(key, ?1) = 1 AND substr(key, -length(?2)) = ?2", *opened)
            self.vectors.forget(finished.run, training_of=finished.round if keep_training else None)
            self._write("DELETE FROM challenges WHERE transcript = ?", finished.transcript)

    def keep_transcript(self, digest: bytes, transcript: bytes) -> None:
        """The bytes of a transcript that a finished sum names by its hash."""
        self._write("INSERT OR IGNORE INTO transcripts VALUES (?, ?)", digest, transcript)

    def transcript(self, digest: bytes) -> bytes | None:
        """None for a sum that was finished before transcripts were kept."""
        row = self._database.execute("SELECT transcript FROM transcripts WHERE hash = ?", (digest,)).fetchone()
        return bytes(row[0]) if row else None

    def finished_sums(self, run: str | None = None) -> list[FinishedSum]:
        """Every sum in the order in which it was finished, or those of one run."""
        query = "SELECT * FROM sums WHERE ? IS NULL OR run = ? ORDER BY rowid"
        return [FinishedSum(*row) for row in self._database.execute(query, (run, run))]

    def sums_before_transcripts(self) -> list[FinishedSum]:
        """Those that were finished while no transcripts were kept; every later one has its own."""
        query = "SELECT * FROM sums WHERE rowid <= (SELECT CAST(value AS INTEGER) FROM meta WHERE name = ?)"
        return [FinishedSum(*row) for row in self._database.execute(query, (BEFORE_TRANSCRIPTS,))]

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All of a table as it is on disk, by column, for an audit."""
        cursor = self._database.execute(f"SELECT * FROM {table} ORDER BY rowid")  # noqa: S608 (a name of ours)
        return [dict(zip([column[0] for column in cursor.description], row, strict=True)) for row in cursor]

    def _write(self, statement: str, *values: object) -> None:
        with self.transaction():
            self._database.execute(statement, values)
