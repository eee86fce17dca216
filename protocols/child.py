"""A child process that is started again whenever it ends, after a pause that grows while it keeps ending soon."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from protocols.files import make_folder
from protocols.tethered import tethered

PAUSES = (0.5, 2.0, 5.0, 15.0, 30.0)  # seconds
STEADY_SECONDS = 120.0  # who lived so long begins with the shortest pause again
GRACE_SECONDS = 10.0
_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Program:
    """What runs, and where its output goes; the file is added to."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path


class Child:
    """One program under watch. `tend` is called again and again by one thread, which must outlive the child."""

    def __init__(self, program: Program, clock: Callable[[], float], say: Callable[[str], None]) -> None:
        self.program = program
        self._clock = clock
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._failures = 0
        self._not_before = 0.0
        self.starts = 0  # how often it was started

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return self._clock() - self._began

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs, and before it ran."""
        return None if self._process is None else self._process.poll()

    def tend(self) -> None:
        """Starts the program if it does not run and its pause is over."""
        if self.running:
            return
        if self._process is not None:
            self._note_end()
        if self._clock() >= self._not_before:
            self._start()

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Asks it to end, and kills it when it does not; afterwards `tend` may start it again at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(grace)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process, self._failures, self._not_before = None, 0, 0.0

    def _start(self) -> None:
        program = self.program
        make_folder(program.log.parent)
        handle = os.open(program.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "ab") as log:
            line, environment = tethered(list(program.command)), dict(program.environment)
            self._process = subprocess.Popen(line, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603
        self._began = self._clock()
        self.starts += 1

    def _note_end(self) -> None:
        lived = self._clock() - self._began
        self._failures = 1 if lived >= STEADY_SECONDS else self._failures + 1
        pause, program = PAUSES[min(self._failures, len(PAUSES)) - 1], self.program
        said = _last_sentence(program.log)
        self._say(
            f"{program.name} ended with exit code {self.exit_code}{said and f' ({said})'} and starts again in {pause:g} s; "
            f"{program.log} says more"
        )
        self._process, self._not_before = None, self._clock() + pause


def _last_sentence(log: Path) -> str:
    """What a program of ours said last, if that was an error; empty for other programs, whose lines may quote anything."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            last = json.loads(file.read().splitlines()[-1])
        return str(last["sentence"]) if last["level"] in ("error", "critical") else ""
    except (OSError, ValueError, LookupError, TypeError):
        return ""
