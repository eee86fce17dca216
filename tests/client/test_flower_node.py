"""The SuperNode's process ends with its main loop, and says when that loop turned last."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
