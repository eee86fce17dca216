"""How much one node may ask: requests a second, requests at once, and seconds for one exchange."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from coordinator.fence.head import Refused


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what anybody may take of the fence; the defaults leave a busy SuperNode far from all of them."""

    connections: int = 256  # open at once, of everybody together
    head_seconds: int = 10  # until a request's head is complete; flwr's client lets idle connections go after 5
    requests_per_second: float = 50.0  # of one node, on average
    burst: int = 200  # of one node, after a pause
    at_once: int = 16  # requests of one node under way
    held: int = 64  # nodes that wait at the fence for their next message; more ask again by themselves
    hold_seconds: float = 10.0  # flwr's client waits 30 s for an answer
    grace_seconds: float = 60.0  # of one exchange, beside the time for its bytes
    slowest: float = 32 * 1024  # bytes per second that a node must manage, either way

    def seconds(self, length: int) -> float:
        """How long a transfer of `length` bytes may take."""
        return self.grace_seconds + length / self.slowest


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Turns:
    """A token bucket and a count of requests under way for each node; `clock` is monotonic, in seconds."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def turn(self, node: str) -> Iterator[None]:
        """Holds one of the node's places.

        Raises:
            Refused: 503, after which a SuperNode waits and tries again (after 429 it would give up).
        """
        if self._under_way[node] >= self._limits.at_once or not self._take(node):
            raise Refused(503)
        self._under_way[node] += 1
        try:
            yield
        finally:
            self._under_way[node] -= 1

    def _take(self, node: str) -> bool:
        now = self._clock()
        bucket = self._buckets.setdefault(node, _Bucket(self._limits.burst, now))
        bucket.tokens = min(self._limits.burst, bucket.tokens + (now - bucket.at) * self._limits.requests_per_second)
        bucket.at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True
