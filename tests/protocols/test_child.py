"""Children are started again, stopped, and never outlive their supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from protocols.child import PAUSES, STEADY_SECONDS, Child, Program


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def _program(folder: Path, code: str) -> Program:
    return Program("the program", (sys.executable, "-c", code), dict(os.environ), folder / "logs" / "program.log")


def test_a_program_that_keeps_ending_is_started_after_longer_and_longer_pauses(tmp_path: Path) -> None:
    clock, said = Clock(), list[str]()
    child = Child(_program(tmp_path, "print('here'); raise SystemExit(49)"), clock, said.append)
    for pause in (*PAUSES, PAUSES[-1]):
        child.tend()
        _until(lambda: not child.running)
        child.tend()
        assert not child.running
        clock.now += pause - 0.1
        child.tend()
        assert child.pid is None
        clock.now += 0.2
    assert "exit code 49 and starts again in 30 s" in said[-1]
    assert child.program.log.read_text().count("here") == len(PAUSES) + 1
    assert child.program.log.stat().st_mode & 0o077 == 0


def test_what_a_program_of_ours_died_of_is_told(tmp_path: Path) -> None:
    said = list[str]()
    lines = {
        "the disk is full": '{"level": "error", "sentence": "the disk is full"}',
        "": "Traceback: a record",
        "said on": '{"level": "info", "sentence": "said on"}',
    }
    for number, (sentence, line) in enumerate(lines.items()):
        child = Child(_program(tmp_path / str(number), f"print({line!r}); raise SystemExit(1)"), Clock(), said.append)
        child.tend()
        _until(lambda child=child: not child.running)  # type: ignore[misc]
        child.tend()
        expected = f"exit code 1 ({sentence}) and" if number == 0 else "exit code 1 and"
        assert expected in said[-1]


def test_a_program_that_lived_long_starts_again_soon(tmp_path: Path) -> None:
    clock, said = Clock(), list[str]()
    child = Child(_program(tmp_path, "pass"), clock, said.append)
    for _ in range(3):
        child.tend()
        _until(lambda: not child.running)
        clock.now += STEADY_SECONDS
        child.tend()
        clock.now += PAUSES[0]
    assert all(f"in {PAUSES[0]:g} s" in line for line in said)


def test_a_stopped_program_is_gone_even_if_it_will_not_listen(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = Child(_program(tmp_path, deaf), time.monotonic, print)
    child.tend()
    _until(lambda: child.program.log.read_text() == "up\n")
    pid = child.pid
    child.stop(grace=0.1)
    assert pid is not None
    assert not child.running
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_child_does_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom protocols.child import Child, Program\n"
        "p = Program('p', (sys.executable, '-c', 'import time; time.sleep(60)'), dict(os.environ), Path(sys.argv[1]) / 'log')\n"
        "c = Child(p, time.monotonic, print)\nc.tend()\nprint(c.pid, flush=True)\ntime.sleep(60)\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    pid = int(supervisor.stdout.readline())
    _until(lambda: b"tethered" not in Path(f"/proc/{pid}/cmdline").read_bytes())
    supervisor.send_signal(signal.SIGKILL)
    supervisor.wait()
    supervisor.stdout.close()
    _until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])
