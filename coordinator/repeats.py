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
    silent: bool = False  # whether it left its last request unanswered
    identifier: str = ""  # Flower's, of the message; empty while it is lost
    lost_at: float | None = None  # when that was noticed
    away_at: float | None = None  # when it was noticed that the node is not connected
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


def note_away(waiting: Iterable[Asked], connections: Mapping[int, str] | None, now: float) -> None:
    """Keeps since when nodes are not connected: Flower says so once for a message, and not of one whose answer began to arrive."""
    for asked in waiting if connections is not None else ():
        here = asked.node in (connections or {})
        asked.away_at = None if here else asked.away_at if asked.away_at is not None else now


def given_up(waiting: Iterable[Asked], now: float, patience: float) -> list[Asked]:
    """Those that were lost, or away, for `patience` seconds. Who left its last request unanswered is not waited for while it is away."""

    def is_over(at: float | None, seconds: float) -> bool:
        return at is not None and at <= now - seconds

    return [one for one in waiting if is_over(one.lost_at, patience) or is_over(one.away_at, 0.0 if one.silent else patience)]
