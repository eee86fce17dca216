"""What a sum may be asked for again: an institution's vectors, and a round's training, as files that the ledger's rows name."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.digests import Digests
from client.errors import LedgerError
from client.storage import must_be_written
from protocols.errors import Refusal
from protocols.files import write_file

TABLES = """
CREATE TABLE IF NOT EXISTS vectors (run TEXT, round INTEGER, sum TEXT, state_hash BLOB NOT NULL, sha256 BLOB NOT NULL,
  PRIMARY KEY (run, round, sum)) STRICT;
CREATE TABLE IF NOT EXISTS cohorts (run TEXT, round INTEGER, sum TEXT, members INTEGER NOT NULL, PRIMARY KEY (run, round, sum)) STRICT;
"""
TRAINING = "training"  # beside the names of sums: what an institution trained in a round, before any of it is a vector


class Vectors:
    """The ledger's table of vectors and their files; `transaction` is the ledger's."""

    def __init__(self, home: Path, database: sqlite3.Connection, transaction: Callable[[], AbstractContextManager[None]]) -> None:
        self._home = home
        self._database = database
        self._transaction = transaction
        self._digests = Digests()

    def keep(self, run: str, round_number: int, kind: str, state_hash: bytes, content: bytes | memoryview, members: int = 0) -> None:
        """The final vector of a sum, uint32 little-endian, or a round's training; a sum that is asked again sends this one.

        Args:
            members: size of the cohort that a vector was encoded for.

        Raises:
            StorageError: it cannot be written; there is no row of it.
        """
        row = (run, round_number, kind, state_hash, hashlib.sha256(content).digest())
        path = self._path(run, round_number, kind)
        with must_be_written(path), self._transaction():
            # The row first: where another process kept one, its file stays.
            self._database.execute("INSERT INTO vectors VALUES (?, ?, ?, ?, ?)", row)
            self._database.execute("INSERT OR REPLACE INTO cohorts VALUES (?, ?, ?, ?)", (run, round_number, kind, members))
            write_file(path, content, mode=0o600)

    def kept(self, run: str, round_number: int, kind: str, state_hash: bytes | None) -> NDArray[np.uint8] | None:
        """What was kept, uint8 [bytes], read from its file as it is used; made from any state if `state_hash` is None.

        Raises:
            Refusal: it was made from another state. LedgerError: its file is damaged.
        """
        query = "SELECT state_hash, sha256 FROM vectors WHERE run = ? AND round = ? AND sum = ?"
        row = self._database.execute(query, (run, round_number, kind)).fetchone()
        if row is None:
            return None
        if state_hash is not None and row[0] != state_hash:
            raise Refusal(f"the {kind} sum of round {round_number} was already computed from another state")
        path = self._path(run, round_number, kind)
        content = np.memmap(path, np.uint8, "r") if path.exists() and path.stat().st_size else np.empty(0, np.uint8)

        def sha256() -> bytes:
            return hashlib.sha256(content.data).digest()

        if (self._digests.of(path, sha256) if content.size else sha256()) != row[1]:
            raise LedgerError(f"{path}: the stored vector is damaged; this institution cannot take part in the sum again")
        return content

    def members(self, run: str, round_number: int, kind: str) -> int:
        """Size of the cohort that a vector was encoded for; 0 where an earlier version kept it."""
        query = "SELECT members FROM cohorts WHERE run = ? AND round = ? AND sum = ?"
        row = self._database.execute(query, (run, round_number, kind)).fetchone()
        return int(row[0]) if row else 0

    def all(self) -> list[tuple[str, int, str]]:
        """Run, round and sum of everything that may still be asked for."""
        return list(self._database.execute("SELECT run, round, sum FROM vectors ORDER BY run, round, sum"))

    def forget(self, run: str, training_of: int | None) -> None:
        """Drops the rows of a run but that of one round's training; `remove_files` does the rest once that is committed."""
        with self._transaction():
            row = (run, TRAINING, -1 if training_of is None else training_of)
            for table in ("vectors", "cohorts"):
                self._database.execute(f"DELETE FROM {table} WHERE run = ? AND NOT (sum = ? AND round = ?)", row)  # noqa: S608 (ours)

    def remove_files(self) -> None:
        """Removes every file without a row."""
        named = {self._path(*row) for row in self.all()}
        for path in (self._home / "vectors").rglob("*"):
            if path.is_file() and path not in named:
                self._digests.remove(path)

    def _path(self, run: str, round_number: int, kind: str) -> Path:
        return self._home / "vectors" / run / f"{round_number}-{kind}.{'safetensors' if kind == TRAINING else 'u32'}"
