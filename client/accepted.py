"""The ledger's tables of plans that wait for a person, and of what this institution signed when it accepted one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from protocols.errors import Refusal

TABLES = """
CREATE TABLE IF NOT EXISTS pending (run TEXT PRIMARY KEY, plan BLOB NOT NULL, asked_at TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS acceptances (run TEXT PRIMARY KEY, acceptance BLOB NOT NULL) STRICT;
"""
MOST_PENDING = 100  # a coordinator cannot fill the disk with plans


class PendingPlan(NamedTuple):
    """A plan that a person has not decided upon."""

    run: str
    plan: bytes  # canonical
    asked_at: str


class AcceptedPlans:
    """What a run has come to before its first sum: it waits, or it is accepted in writing."""

    def __init__(
        self, database: sqlite3.Connection, transaction: Callable[[], AbstractContextManager[None]], now: Callable[[], str]
    ) -> None:
        self._database = database
        self._transaction = transaction
        self._now = now

    def keep_pending(self, run: str, plan: bytes) -> None:
        """Notes that a run waits, since when it was asked for first.

        Raises:
            Refusal: too many wait already, or the run waits with another plan: what a person has read must be what they approve.
        """
        waiting = {one.run: one.plan for one in self.pending()}
        if run in waiting and waiting[run] != plan:
            raise Refusal(f"run {run} waits here with another plan; submit the changed plan as a new run")
        if run in waiting:
            return
        if len(waiting) >= MOST_PENDING:
            raise Refusal(f"{MOST_PENDING} plans wait for a decision at this institution; no other is taken before some are decided")
        with self._transaction():
            self._database.execute("INSERT INTO pending VALUES (?, ?, ?)", (run, plan, self._now()))

    def pending(self) -> list[PendingPlan]:
        """The oldest first."""
        return [PendingPlan(*row) for row in self._database.execute("SELECT run, plan, asked_at FROM pending ORDER BY asked_at, run")]

    def acceptance(self, run: str) -> bytes | None:
        """The signed acceptance of a run, as it goes out every time."""
        row = self._database.execute("SELECT acceptance FROM acceptances WHERE run = ?", (run,)).fetchone()
        return bytes(row[0]) if row else None

    def keep_acceptance(self, run: str, acceptance: bytes) -> None:
        """The run waits no longer."""
        with self._transaction():
            self._database.execute("INSERT INTO acceptances VALUES (?, ?)", (run, acceptance))
            self._database.execute("DELETE FROM pending WHERE run = ?", (run,))
