"""Which requests are asked again: those that a node lost with its connection, or with the process that was to answer.

Flower delivers a message once. A SuperNode that is started again knows nothing of what it had, and nobody would ever answer; whether it
was started again shows in its connection. Nodes answer a repeated request with the bytes that they keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

LOOK_SECONDS = 2.0
AWAY_SECONDS = 600.0  # a lost connection of minutes costs minutes; a site that is away for longer is missing, before the deadline
MOST_REPEATS = 8  # of one request to one node: whose process dies of it each time is missing in the end


@dataclass(slots=True)
class Asked:
    """A request to one node until its answer is there, or until nobody waits for the node any more."""

    node: int
    connection: str | None  # when it was asked; None if nobody knows
    identifier: str = ""  # Flower's, of the message; empty while it is lost
    lost_at: float | None = None  # when that was noticed
    bytes_down: int = 0
    repeats: int = 0


def asked_again(waiting: Iterable[Asked], connections: Mapping[int, str] | None) -> list[Asked]:
    """Those of `waiting` that are to be pushed again, as their node is connected: anew, or still after it lost the request.

    Args:
        connections: of the nodes that are connected now; None if nobody knows, and then nothing is repeated.
    """
    again = []
    for asked in waiting:
        now = (connections or {}).get(asked.node)
        if now is None:
            continue
        lost = asked.lost_at is not None or asked.connection not in (None, now)
        asked.connection = now
        if lost and asked.repeats < MOST_REPEATS:
            asked.repeats += 1
            again.append(asked)
    return again


def given_up(waiting: Iterable[Asked], before: float) -> list[Asked]:
    """Those that were lost at a time or before it, and that nobody could repeat since."""
    return [asked for asked in waiting if asked.lost_at is not None and asked.lost_at <= before]
