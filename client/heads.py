"""Heads of the coordinator's event chain, as they were shown to this node: each extends the one before, and none is forgotten."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from protocols.chain import GENESIS, HASH_BYTES, MOST_DIGESTS, ChainHead, check_extension
from protocols.errors import ChainError, Contradiction, Refusal

# `chain` held heads of a former kind of link, which no digests lead on from.
TABLES = """
CREATE TABLE IF NOT EXISTS heads (length INTEGER PRIMARY KEY, head BLOB NOT NULL, digests BLOB NOT NULL,
  request BLOB NOT NULL, countersigned INTEGER NOT NULL) STRICT;
DROP TABLE IF EXISTS chain;
"""


@dataclass(frozen=True, slots=True)
class ShownHead:
    """A head, with the digests of the events since the one before it; the first was taken on trust and has none."""

    head: ChainHead
    digests: bytes
    countersigned: bool  # by a survivor signature of this node


class Heads:
    """The ledger's table of heads; `write` runs one statement in the ledger's transaction."""

    def __init__(self, database: sqlite3.Connection, write: Callable[..., None]) -> None:
        self._database = database
        self._write = write

    @property
    def last(self) -> ChainHead:
        """The longest chain that was shown; the empty one before the first."""
        row = self._database.execute("SELECT length, head FROM heads ORDER BY length DESC LIMIT 1").fetchone()
        return ChainHead(*row) if row else ChainHead(0, GENESIS)

    def follow(self, head: ChainHead, digests: bytes, request: bytes) -> None:
        """Goes on to a head that extends the last one; without a last one the head is taken on trust.

        Args:
            digests: of the events up to `head`, 32 bytes each, beginning at or before the end of the last chain.
            request: the signed request that shows them.

        Raises:
            Refusal: too many digests. Contradiction: with the request that showed the last head; the digests do not lead on from there.
        """
        if len(digests) > HASH_BYTES * MOST_DIGESTS:
            raise Refusal(f"an extension of the event chain by more than {MOST_DIGESTS} events is refused")
        start = self.last if self.last.length else head
        since = len(digests) - HASH_BYTES * max(0, head.length - start.length)
        between = digests[max(0, since) :]
        try:
            check_extension(start, between, head)
        except ChainError as error:
            raise Contradiction(str(error), self._last_request()) from None
        if head.length:
            self._write("INSERT OR IGNORE INTO heads VALUES (?, ?, ?, ?, 0)", head.length, head.hash, between, request)

    def _last_request(self) -> bytes:
        row = self._database.execute("SELECT request FROM heads ORDER BY length DESC LIMIT 1").fetchone()
        return bytes(row[0]) if row else b""

    def countersign(self, head: ChainHead) -> None:
        """Notes that a survivor signature of this node covers the head.

        Raises:
            Contradiction: it is not one that this node follows.
        """
        row = self._database.execute("SELECT head FROM heads WHERE length = ?", (head.length,)).fetchone()
        if head.length and (row is None or row[0] != head.hash):
            raise Contradiction(f"the event chain of {head.length} events is not the one that was shown before")
        self._write("UPDATE heads SET countersigned = 1 WHERE length = ?", head.length)

    def shown(self) -> list[ShownHead]:
        """Every head that was shown, the shortest chain first."""
        rows = self._database.execute("SELECT length, head, digests, countersigned FROM heads ORDER BY length")
        return [ShownHead(ChainHead(length, head), digests, bool(signed)) for length, head, digests, signed in rows]
