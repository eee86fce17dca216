"""Appending to and checking the event chain inside a session."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from coordinator.errors import ChainBroken
from coordinator.registry.records import Event
from coordinator.registry.tables import EventRow
from protocols.chain import GENESIS, ChainHead, event_digest, link


def canonical(body: Mapping[str, Any]) -> str:
    """JSON with sorted keys and no spaces; NaN and infinities are refused, because readers would disagree about them."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def append(session: Session, kind: str, run: str | None, at: datetime, body: Mapping[str, Any]) -> ChainHead:
    """Adds an event after the last one, in the session's transaction."""
    if session.get_bind().dialect.name == "postgresql":
        # Two jobs may not extend the same head; SQLite's writers already hold the database's one lock.
        session.execute(text("LOCK TABLE events IN EXCLUSIVE MODE"))
    before, content = head(session), canonical(body)
    sequence = before.length + 1
    digest = link(before.hash, event_bytes(sequence, kind, run, at, content))
    session.add(EventRow(sequence=sequence, kind=kind, run=run, at=at, body=content, previous_hash=before.hash.hex(), hash=digest.hex()))
    session.flush()
    return ChainHead(sequence, digest)


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
