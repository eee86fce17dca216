"""Appending to and checking the event chain inside a session."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from coordinator.errors import ChainBroken
from coordinator.registry.records import Event
from coordinator.registry.tables import ChainHeadRow, EventRow
from protocols.chain import GENESIS, ChainHead, event_digest, link


def canonical(body: Mapping[str, Any]) -> str:
    """JSON with sorted keys and no spaces; NaN and infinities are refused, because readers would disagree about them."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def lock(session: Session) -> None:
    """Waits until no other writer is inside and keeps them out until the session's transaction ends.

    Raises:
        ChainBroken: the head row is not there.
    """
    # SQLite has no row locks and ignores the clause; its writers began with the database's one lock (database.py).
    if session.scalars(select(ChainHeadRow.length).with_for_update()).first() is None:
        raise ChainBroken("the chain's head row is missing; the registry was changed by hand, restore a backup")


def append(session: Session, kind: str, run: str | None, at: datetime, body: Mapping[str, Any]) -> ChainHead:
    """Adds an event after the last one, in the session's transaction, which holds the lock.

    Raises:
        ChainBroken: the last event is not the one that the head row names.
    """
    before, content = checked_head(session), canonical(body)
    sequence = before.length + 1
    digest = link(before.hash, event_bytes(sequence, kind, run, at, content))
    session.add(EventRow(sequence=sequence, kind=kind, run=run, at=at, body=content, previous_hash=before.hash.hex(), hash=digest.hex()))
    session.execute(update(ChainHeadRow).values(length=sequence, hash=digest.hex()))
    session.flush()
    return ChainHead(sequence, digest)


def checked_head(session: Session) -> ChainHead:
    """The end of the chain, where the head row says that it is.

    Raises:
        ChainBroken: events at the end are missing, or were added by hand.
    """
    end, row = head(session), session.scalars(select(ChainHeadRow)).first()
    if row is None or (row.length, row.hash) != (end.length, end.hash.hex()):
        raise ChainBroken(f"the chain ends at event {end.length}, but not by its head row; the registry was changed, restore a backup")
    return end


def holds(session: Session, reached: ChainHead) -> bool:
    """Whether the event that made this head is in the chain."""
    return session.scalar(select(EventRow.hash).where(EventRow.sequence == reached.length)) == reached.hash.hex()


def head(session: Session) -> ChainHead:
    """The end of the chain; of an empty one, 32 zero bytes."""
    last = session.scalars(select(EventRow).order_by(EventRow.sequence.desc()).limit(1)).first()
    return ChainHead(0, GENESIS) if last is None else ChainHead(last.sequence, bytes.fromhex(last.hash))


def event_bytes(sequence: int, kind: str, run: str | None, at: datetime, body: str) -> bytes:
    """What an event's hash covers beside the hash before it."""
    fields = [sequence, kind, run, at.astimezone(UTC).isoformat(timespec="microseconds"), body]
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def digests(events: Iterable[Event]) -> bytes:
    """32 bytes for each event: enough to show that its chain extends the one before."""
    return b"".join(event_digest(_bytes_of(event)) for event in events)


def check(events: Iterable[Event]) -> ChainHead:
    """Recomputes every link.

    Raises:
        ChainBroken: naming the first event that is missing, was changed, or does not follow the one before.
    """
    end = ChainHead(0, GENESIS)
    for event in events:
        if event.sequence != end.length + 1:
            raise ChainBroken(f"event {end.length + 1} is missing from the chain; the registry was changed by hand, restore a backup")
        if event.previous_hash != end.hash or event.hash != link(end.hash, _bytes_of(event)):
            raise ChainBroken(f"event {event.sequence} ({event.kind}) is not what was written; the registry was changed, restore a backup")
        end = ChainHead(event.sequence, event.hash)
    return end


def _bytes_of(event: Event) -> bytes:
    return event_bytes(event.sequence, event.kind, event.run, event.at, event.body)
