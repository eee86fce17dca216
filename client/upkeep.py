"""What a running node does by itself now and then: renews its certificate, compares clocks, takes over who was vouched for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from client.checks.connection import clock_warning
from client.connection import connect
from client.joining import fetch_certificate
from client.roster_book import accept_vouched, offer_of
from protocols.errors import ConsortiumError
from protocols.policy import load_policy

EVERY_SECONDS = 600.0
Clock = Callable[[], datetime]  # aware


class Upkeep:
    """Of one institution's folder; `look` is called between messages and mostly does nothing."""

    def __init__(self, folder: Path, clock: Clock, stopwatch: Callable[[], float], say: Callable[[str], None]) -> None:
        self._folder = folder
        self._clock = clock
        self._stopwatch = stopwatch
        self._say = say
        self._next = stopwatch()

    def look(self) -> None:
        """Does what is due. A service that is away is asked again the next time; nothing here ends a node."""
        if self._stopwatch() < self._next:
            return
        self._next = self._stopwatch() + EVERY_SECONDS
        try:
            fetch_certificate(self._folder, self._clock)
            if warning := clock_warning(self._folder, self._clock):
                self._say(warning)
            self._take_over()
        except (ConsortiumError, OSError) as error:
            self._say(f"the operator's service was of no use now: {error}")

    def _take_over(self) -> None:
        policy = load_policy(self._folder / "policy.toml")
        if not policy.accept_vouched:
            return
        with connect(self._folder, self._clock) as service:
            offer = offer_of(service)
        for change in accept_vouched(self._folder, policy, offer, self._clock().date().isoformat()):
            self._say(f"{change.name} is on the roster now, as {', '.join(change.vouched_by)} vouch for it")
