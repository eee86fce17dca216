"""One process drives a run: a lease named after it, which passes on at once when its holder died on this machine."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from coordinator.registry.registry import Registry


@contextmanager
def driving(registry: Registry, run: str, seconds: float) -> Iterator[Registry]:
    """Holds the lease on a run for at most `seconds`; what is written through the registry that it gives is refused once it is lost.

    Raises:
        LeaseHeld: another process drives the run.
    """
    fence = registry.take_lease(run, owner(), seconds, gone=is_gone)
    try:
        yield registry.fenced(run, fence)
    finally:
        registry.release_lease(run, owner())


def owner() -> str:
    """This process, as leases name it."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def is_gone(holder: str) -> bool:
    """Whether the holder is a process of this machine that no longer lives; of other machines nothing is known."""
    here = re.fullmatch(rf"process (\d+) on {re.escape(socket.gethostname())}", holder)
    if here is None:
        return False
    try:
        os.kill(int(here[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
