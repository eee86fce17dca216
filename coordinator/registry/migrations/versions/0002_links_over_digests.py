"""Links over the digests of events instead of their bytes; every link of a registry is computed anew, if the former ones hold."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from alembic import op

from coordinator.errors import ChainBroken
from coordinator.registry.tables import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Link = Callable[[bytes, bytes], bytes]

# As in 0001: of its triggers only those on update stand in the way.
SQLITE = (
    "DROP TRIGGER events_no_update",
    "CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
)
POSTGRESQL = (
    "DROP TRIGGER events_append_only ON events",
    """CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change()""",
)
TRIGGERS = {"sqlite": SQLITE, "postgresql": POSTGRESQL}

EVENTS = sa.table(
    "events",
    sa.column("sequence", sa.Integer),
    sa.column("kind", sa.String),
    sa.column("run", sa.String),
    sa.column("at", UtcDateTime),
    sa.column("body", sa.Text),
    sa.column("previous_hash", sa.String),
    sa.column("hash", sa.String),
)


def upgrade() -> None:
    _link_anew(_over_bytes, _over_digest)


def downgrade() -> None:
    _link_anew(_over_digest, _over_bytes)


def _link_anew(former: Link, following: Link) -> None:
    drop, create = TRIGGERS.get(op.get_bind().dialect.name, ("", ""))
    if drop:
        op.execute(drop)
    before, after = bytes(32), bytes(32)
    for event in op.get_bind().execute(sa.select(EVENTS).order_by(EVENTS.c.sequence)).all():
        content, previous = _content(event), after
        before = _checked(event, before, former(before, content))
        after = following(after, content)
        changed = {"previous_hash": previous.hex(), "hash": after.hex()}
        op.get_bind().execute(sa.update(EVENTS).where(EVENTS.c.sequence == event.sequence).values(changed))
    if create:
        op.execute(create)


def _checked(event: Any, before: bytes, computed: bytes) -> bytes:
    """A new link would hide that an event was changed, so the former one must hold."""
    if (event.previous_hash, event.hash) != (before.hex(), computed.hex()):
        raise ChainBroken(f"event {event.sequence} ({event.kind}) is not what was written; the registry was changed, restore a backup")
    return computed


def _content(event: Any) -> bytes:
    at = event.at.astimezone(UTC).isoformat(timespec="microseconds")
    return json.dumps([event.sequence, event.kind, event.run, at, event.body], separators=(",", ":"), ensure_ascii=False).encode()


def _over_bytes(previous: bytes, content: bytes) -> bytes:
    return hashlib.sha256(b"consortium event chain 1\0" + previous + content).digest()


def _over_digest(previous: bytes, content: bytes) -> bytes:
    return hashlib.sha256(b"consortium event chain 2\0" + previous + hashlib.sha256(content).digest()).digest()
