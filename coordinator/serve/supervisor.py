"""The loop of `serve`: whatever differs from what the registry wants is put right, again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from coordinator.errors import LeaseHeld, RegistryError
from coordinator.flower_link import FlowerLink, superlink_command
from coordinator.registry.registry import Registry
from coordinator.serve.node_keys import NodeKeys
from coordinator.serve.places import Places
from coordinator.serve.run_processes import RunProcesses
from protocols.child import Child, Program
from protocols.errors import FlowerAway
from protocols.flower import environment

LEASE = "supervisor"
LEASE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Edges:
    """What the loop takes from the outside."""

    environment: Mapping[str, str]
    owner: str  # of the lease
    gone: Callable[[str], bool]  # whether an owner is known to have ended
    say: Callable[[str], None]


class Supervisor:
    """SuperLink, node keys and runs' processes. One thread calls `step`, and it must outlive the children."""

    def __init__(self, places: Places, registry: Registry, link: FlowerLink, edges: Edges) -> None:
        self._registry = registry
        self._link = link
        self._edges = edges
        line = tuple(superlink_command(places.superlink, places.home.settings.serve.superlink_port))
        program = Program("the SuperLink", line, environment(edges.environment, places.flower), places.log("superlink"))
        self._superlink = Child(program, time.monotonic, edges.say)
        self.runs = RunProcesses(places, registry, edges.environment, edges.say)
        self.keys = NodeKeys(registry, link, edges.say)
        self._known_superlink: int | None = None
        self._away = False
        self._renew_at = 0.0  # of the lease, on the monotonic clock

    @property
    def superlink_pid(self) -> int | None:
        """Its process id."""
        return self._superlink.pid

    @property
    def starts(self) -> dict[str, int]:
        """How often each process was started: the SuperLink, and those of runs by their names; safe to ask from any thread."""
        return {"superlink": self._superlink.starts, **self.runs.starts}

    def take_lease(self) -> None:
        """Makes this the one that serves the registry, or goes on being it. Raises LeaseHeld if another is."""
        if time.monotonic() >= self._renew_at:
            self._registry.take_lease(LEASE, self._edges.owner, LEASE_SECONDS, gone=self._edges.gone)
            self._renew_at = time.monotonic() + LEASE_SECONDS / 4

    def step(self) -> None:
        """One look at everything; what is away now is looked at again the next time.

        Raises:
            LeaseHeld: another coordinator serves this registry.
        """
        try:
            self.take_lease()
            self.keys.admit()
            self._tend_superlink()
            self.keys.tell()
            self.runs.tend()
            self._say_once(None)
        except LeaseHeld:
            raise
        except (FlowerAway, RegistryError) as error:
            self._say_once(str(error))

    def stop(self) -> None:
        """Ends the runs' processes, then the SuperLink, and gives the lease back."""
        self.runs.stop()
        self._superlink.stop()
        self._registry.release_lease(LEASE, self._edges.owner)

    def _tend_superlink(self) -> None:
        self._superlink.tend()
        if self._superlink.pid != self._known_superlink:
            self._known_superlink = self._superlink.pid
            self.keys.forget()

    def _say_once(self, problem: str | None) -> None:
        if problem is not None and not self._away:
            self._edges.say(problem)
        self._away = problem is not None
