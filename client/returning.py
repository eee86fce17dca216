"""Runs that a restored ledger only follows until it has seen that it promised nothing in what comes next.

Promises that were made after the backup are lost. A node could be asked for a second set of a sum that it has forgotten. So it sends
nothing until a sum was finished, without its input, in an epoch that this incarnation helped to set up, and an update then or later.
Any t members who signed with it for a later sum, and any t who finish that one without it, share an honest member, who would have refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from protocols.files import write_file

TABLES = """
CREATE TABLE IF NOT EXISTS returning_runs (run TEXT PRIMARY KEY, older INTEGER NOT NULL, seen INTEGER, is_back INTEGER NOT NULL) STRICT;
"""
ABANDONED = "abandoned"  # stage of an epoch that was open when its ledger was restored
FIRST = 1  # the incarnation of a ledger that was never restored


class ReturningRuns:
    """The ledger's table of runs that are followed only; `transaction` is the ledger's.

    A person's word that a run was submitted after the restore is a file of its own, `rejoined/RUN`, as the ledger's one writer is the node.
    """

    def __init__(
        self, home: Path, database: sqlite3.Connection, transaction: Callable[[], AbstractContextManager[None]], incarnation: int
    ) -> None:
        self._home, self._database, self._transaction, self._incarnation = home, database, transaction, incarnation

    def is_only_followed(self, run: str) -> bool:
        """Whether nothing of this institution may be in the run's next sum."""
        return self._incarnation != FIRST and not self._place(run)[1] and not self._is_rejoined(run)

    def begin(self, runs: Collection[str]) -> None:
        """After a restore: no run was followed yet, and these are older than it."""
        with self._transaction():
            self._database.execute("DELETE FROM returning_runs")
            self._database.executemany("INSERT INTO returning_runs VALUES (?, 1, NULL, 0)", [(run,) for run in runs])

    def note_finished(self, run: str, kinds: Sequence[str], own_epoch: bool) -> None:
        """Notes that the run's first sums, of these kinds, are finished.

        Args:
            own_epoch: whether the last of them was of an epoch that this incarnation helped to set up.
        """
        seen, _ = self._place(run)
        seen = len(kinds) - 1 if seen is None and own_epoch else seen
        if seen is None:
            return
        change = (
            "INSERT INTO returning_runs VALUES (?, 0, ?, ?) "
            "ON CONFLICT (run) DO UPDATE SET seen = excluded.seen, is_back = is_back OR excluded.is_back"
        )
        with self._transaction():
            self._database.execute(change, (run, seen, int("update" in kinds[seen:])))

    def is_older(self, run: str) -> bool:
        """Whether the ledger knew the run when it was restored."""
        return self._database.execute("SELECT 1 FROM returning_runs WHERE run = ? AND older = 1", (run,)).fetchone() is not None

    def rejoin(self, run: str) -> None:
        """Keeps a person's word that the run was submitted after the restore; it counts for this incarnation alone."""
        write_file(self._path(run), b"%d\n" % self._incarnation, mode=0o600)

    def _place(self, run: str) -> tuple[int | None, bool]:
        """How many sums were finished before the first that counts, and whether an update was since."""
        row = self._database.execute("SELECT seen, is_back FROM returning_runs WHERE run = ?", (run,)).fetchone()
        return (row[0], bool(row[1])) if row else (None, False)

    def _is_rejoined(self, run: str) -> bool:
        path = self._path(run)
        return path.exists() and path.read_bytes() == b"%d\n" % self._incarnation

    def _path(self, run: str) -> Path:
        return self._home / "rejoined" / run
