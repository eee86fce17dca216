"""The SuperNode's process ends with its main loop, and says when that loop turned last."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.supercore.inflatable.inflatable_utils import push_object_contents_from_iterable

from client import flower_node
from tests.consortium.command_line import environment

# Flower's thread for the Runtime API is no daemon: without an end of ours the process would stay and pull nothing.
ZOMBIE = """
import sys, threading, time
from client import flower_node
from flwr.supernode import start_client_internal as loop

def supernode():
    print(sys.argv, flush=True)
    threading.Thread(target=lambda: time.sleep(600)).start()
    loop.time.sleep(3)
    {then}

flower_node.flower_supernode = supernode
flower_node.main(["--idle", "0.01", "--alive", sys.argv[1], "--", "--port", "1"])
"""


@pytest.mark.parametrize("then", ["pass", "threading.Thread(target=lambda: 1 / 0).start(); time.sleep(600)"])
def test_process_ends_when_the_loop_or_a_thread_ends(then: str, tmp_path: Path) -> None:
    call = [sys.executable, "-P", "-c", ZOMBIE.format(then=then), str(tmp_path / "alive")]
    done = subprocess.run(call, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.strip() == "['flower-supernode', '--port', '1']"
    assert (tmp_path / "alive").exists()


def test_a_reply_whose_node_died_half_way_is_given_up_and_a_training_is_waited_for(tmp_path: Path) -> None:
    now = [0.0]
    clock, pushed = flower_node._LoopClock(0.0, tmp_path / "alive", lambda: now[0]), []

    def contents() -> Iterator[tuple[str, bytes]]:
        yield "first", b"1"
        while True:
            now[0] += flower_node.OBJECT_SECONDS / 2
            clock.sleep(0.5)

    with pytest.raises(TimeoutError, match="no further object"):
        clock.pushing(push_object_contents_from_iterable)(contents(), lambda name, _: pushed.append(name))
    now[0] += 1e6
    clock.sleep(0.5)
    assert pushed == ["first"]
