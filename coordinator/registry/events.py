"""The event chain as callers see it: appended to, read, recomputed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.registry import event_chain
from coordinator.registry.conversion import event_of, unreadable_event
from coordinator.registry.reading import read_rows
from coordinator.registry.records import Event
from coordinator.registry.tables import EventRow
from coordinator.registry.transactions import Change, Transactions, reads, writes
from protocols.chain import ChainHead


class Events(Transactions):
    """Every change of the registry is an event of this chain."""

    @writes
    def append_event(self, change: Change, kind: str, run: str | None, body: Mapping[str, Any]) -> ChainHead:
        """Adds an event that belongs to no other change; `body` becomes canonical JSON and holds no secret and no record."""
        return change.append(kind, run, body)

    @reads
    def head(self, session: Session) -> ChainHead:
        """Length and last hash of the event chain."""
        return event_chain.head(session)

    @reads
    def events(self, session: Session, run: str | None = None, after: int = 0) -> tuple[Event, ...]:
        """Events of all runs, or of one, with a sequence number above `after`."""
        query = select(EventRow).where(EventRow.sequence > after).order_by(EventRow.sequence)
        if run is not None:
            query = query.where(EventRow.run == run)
        return read_rows(session, query, event_of, unreadable_event)

    def digests(self, after: int, until: int) -> bytes:
        """One 32-byte digest for each event after the first `after`, up to number `until`: shows that one head extends another."""
        return event_chain.digests(event for event in self.events(after=after) if event.sequence <= until)

    @reads
    def verify_chain(self, session: Session) -> ChainHead:
        """Recomputes the whole event chain.

        Raises:
            ChainBroken: naming the first event that is not as it was written.
        """
        end = event_chain.check(read_rows(session, select(EventRow).order_by(EventRow.sequence), event_of, unreadable_event))
        event_chain.checked_head(session)
        return end
