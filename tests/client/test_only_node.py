"""A ledger is answered from by one node at a time."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from client.errors import LedgerError
from client.only_node import check_no_node, only_node, only_supernode
from client.running import run_both
from client.settings import load_settings
from tests.client.small_institution import write_institution

HOLD = """
import sys, time
from pathlib import Path
from client.only_node import only_node
with only_node(Path(sys.argv[1])):
    print(1, flush=True)
    time.sleep(60)
"""


def test_a_second_node_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with (
        only_node(home),
        pytest.raises(LedgerError, match="another node answers from the ledger in .*home; stop it first"),
        only_node(home),
    ):
        raise AssertionError("two nodes")
    with only_node(home):
        assert (home / "answering").stat().st_mode & 0o777 == 0o600


def test_a_node_that_locked_what_is_there_no_more_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = fcntl.flock

    def late(handle: int, how: int) -> None:
        (tmp_path / "answering").rename(tmp_path / "away")  # as a restore does, between opening and locking
        lock(handle, how)

    monkeypatch.setattr("client.only_node.fcntl.flock", late)
    with pytest.raises(LedgerError, match="made anew"), only_node(tmp_path):
        raise AssertionError("two nodes")


def test_a_node_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"1\n"
        with pytest.raises(LedgerError), only_node(tmp_path):
            raise AssertionError("two nodes")
        os.kill(other.pid, signal.SIGKILL)
    with only_node(tmp_path):
        pass


def never(_: float) -> None:
    raise AssertionError("somebody was waited for")


def test_a_second_run_of_one_folder_is_refused_in_a_sentence(tmp_path: Path) -> None:
    folder = write_institution(tmp_path / "ada")
    with only_supernode(folder), pytest.raises(LedgerError, match="runs for .*ada already; stop it first"):
        run_both(folder, {}, lambda: False, lambda _: None, begun=pytest.fail)
    home = Path(load_settings(folder / "institution.toml").storage.home)
    with only_node(home), pytest.raises(LedgerError, match="another node answers"):
        check_no_node(home, lambda _: None)
    check_no_node(home, never)
    check_no_node(tmp_path / "none", never)


def test_a_node_that_is_about_to_end_is_waited_for(tmp_path: Path) -> None:
    with ExitStack() as node:
        node.enter_context(only_node(tmp_path))
        check_no_node(tmp_path, lambda _: node.close())
