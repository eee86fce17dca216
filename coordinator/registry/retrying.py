"""What a failed transaction means: a conflict is tried again at once, a database that is away for as long as the caller is patient."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

T = TypeVar("T")
MOST_CONFLICTS = 8
FIRST_PAUSE = 0.02  # seconds, doubled at each conflict
OUTAGE_PAUSE = 1.0  # seconds

# Serialisation failure, deadlock, lock not available (PostgreSQL, appendix A); busy, locked (SQLite, primary result codes).
CONFLICTS = frozenset({"40001", "40P01", "55P03"})
SQLITE_CONFLICTS = frozenset({5, 6})
DISK_FULL, SQLITE_FULL = "53100", 13
# Shut down, crashed, starting up, too many connections; class 08 is the connection itself.
OUTAGES = frozenset({"57P01", "57P02", "57P03", "53300", DISK_FULL})
# Input or output failed, disk full, file cannot be opened.
SQLITE_OUTAGES = frozenset({10, SQLITE_FULL, 14})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a database may be away before a caller hears of it; the readers of clocks are passed in by tests."""

    seconds: float = 0.0
    sleep: Callable[[float], None] = time.sleep  # seconds
    now: Callable[[], float] = time.monotonic  # seconds


def persist(attempt: Callable[[], T], patience: Patience) -> T:
    """Calls `attempt` until it succeeds.

    Raises:
        DBAPIError: the last one, when conflicts do not end or the database stays away.
    """
    end, conflicts = patience.now() + patience.seconds, 0
    while True:
        try:
            return attempt()
        except DBAPIError as error:
            if is_conflict(error) and conflicts < MOST_CONFLICTS:
                pause = FIRST_PAUSE * 2**conflicts
                conflicts += 1
            elif is_outage(error) and patience.now() < end:
                pause = min(OUTAGE_PAUSE, end - patience.now())
            else:
                raise
        patience.sleep(pause)


def is_conflict(error: DBAPIError) -> bool:
    """Whether another writer was in the way; nothing was written, and the same may succeed now."""
    return getattr(error.orig, "sqlstate", None) in CONFLICTS or _sqlite_code(error) in SQLITE_CONFLICTS


def is_outage(error: DBAPIError) -> bool:
    """Whether the database could not be reached, which may pass."""
    if error.connection_invalidated or _sqlite_code(error) in SQLITE_OUTAGES:
        return True
    if not hasattr(error.orig, "sqlstate"):
        return False
    state: str | None = getattr(error.orig, "sqlstate", None)  # None: the driver got no answer of the server
    return state is None or state in OUTAGES or state.startswith("08")


def is_disk_full(error: DBAPIError) -> bool:
    """Whether the database has no room for what was to be written."""
    return getattr(error.orig, "sqlstate", None) == DISK_FULL or _sqlite_code(error) == SQLITE_FULL


def _sqlite_code(error: DBAPIError) -> int | None:
    """The primary result code, without the extension in the higher bits."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
