"""The registry: who took part, what was run, what came out; every change leaves an event in a hash chain."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from coordinator.registry.consent import Consent
from coordinator.registry.database import open_engine
from coordinator.registry.events import Events
from coordinator.registry.joining import Joining
from coordinator.registry.leases import Leases
from coordinator.registry.models import Models
from coordinator.registry.participants import Participants
from coordinator.registry.retrying import Patience
from coordinator.registry.rounds import Rounds
from coordinator.registry.runs import Runs
from coordinator.registry.transactions import Clock, Fence


class Registry(Runs, Rounds, Participants, Joining, Consent, Models, Events, Leases):
    """Transactions over the registry's tables; a method changes everything it names, its event included, or nothing."""

    @classmethod
    def open(cls, location: str, clock: Clock, *, read_only: bool = False) -> Self:
        """Opens a SQLite file by path, or any database by SQLAlchemy URL, and brings its schema up to date.

        With `read_only` nothing is made, migrated or written, and nothing but reading may be asked afterwards.

        Raises:
            RegistryError: nothing can be opened there; with `read_only` also if there is no registry of this version.
        """
        return cls(open_engine(location, read_only), clock)

    def close(self) -> None:
        """Ends the connections, also those of views on them; the registry is not used afterwards."""
        self._engine.dispose()

    def patient(self, seconds: float, sleep: Callable[[float], None] = time.sleep, now: Callable[[], float] = time.monotonic) -> Self:
        """A view on the same database that waits up to `seconds` for it to come back, at every call.

        Args:
            sleep: waits so many seconds.
            now: seconds on a clock that never goes back.
        """
        return type(self)(self._engine, self._clock, Patience(seconds, sleep, now), self._fence)

    def fenced(self, name: str, fence: int) -> Self:
        """A view on the same database whose every write is refused with LeaseLost once the lease `name` has another number."""
        return type(self)(self._engine, self._clock, self._patience, Fence(name, fence))
