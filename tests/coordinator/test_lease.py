"""A run is driven by one process; one that was killed is not waited for."""

import socket
import subprocess
import sys

import pytest

from coordinator.errors import LeaseHeld
from coordinator.lease import driving, is_gone
from coordinator.registry import Registry

HOST = socket.gethostname()


def test_lease_ends_with_the_work(registry: Registry) -> None:
    with driving(registry, "run", 1000), pytest.raises(LeaseHeld, match="driven by process"):
        registry.take_lease("run", "another", 1)
    registry.take_lease("run", "another", 1)


def test_living_process_keeps_its_run(registry: Registry) -> None:
    registry.take_lease("run", f"process 1 on {HOST}", 1000)
    with pytest.raises(LeaseHeld, match=f"driven by process 1 on {HOST}"), driving(registry, "run", 1000):
        pytest.fail("entered a run that another process drives")


def test_killed_process_loses_its_run(registry: Registry) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    registry.take_lease("run", f"process {child.pid} on {HOST}", 1000)
    with driving(registry, "run", 1000):
        pass


@pytest.mark.parametrize("owner", ["process 1 on elsewhere.example", "someone else", ""])
def test_owner_that_is_not_known_here_is_given_its_time(owner: str) -> None:
    assert not is_gone(owner)
