"""How many calls of one institution are answered at once: whoever reads slowly holds a thread, and must not hold all of them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from coordinator.errors import TooManyCalls


class Turns:
    """Counts calls by caller's name; shared by the server's threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Raises TooManyCalls if so many calls of this caller are answered already."""
        with self._lock:
            if self._held[name] >= self._most:
                raise TooManyCalls(f"{self._most} calls of {name} are answered already; wait for one of them to end")
            self._held[name] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[name] -= 1
