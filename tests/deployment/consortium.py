"""An operator and its institutions on this machine, by the documented commands alone; every process is a real one, over TLS."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from protocols.tethered import tethered
from tests.deployment.processes import free_port

ROOT = Path(__file__).parents[2]


@dataclass
class Deployment:
    """Folders below `folder`: `operator`, and one for each institution."""

    folder: Path
    names: Sequence[str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def operator(self) -> Path:
        return self.folder / "operator"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-P", "-m", "consortium", *map(str, arguments)]

    def call(self, *arguments: str | Path, code: int = 0) -> str:
        """Standard output of a command, which must end with `code`."""
        return self.call_each([arguments], code)[0]

    def call_each(self, lines: Sequence[Sequence[str | Path]], code: int = 0) -> list[str]:
        """The same for commands side by side."""
        pipe = subprocess.PIPE
        started = [
            subprocess.Popen(self.command(*line), cwd=self.folder, env=self.environment, stdout=pipe, stderr=pipe, text=True)
            for line in lines
        ]
        outputs = []
        for line, process in zip(lines, started, strict=True):
            out, err = process.communicate(timeout=300)
            assert process.returncode == code, f"{' '.join(map(str, line))}: {process.returncode}\n{out}\n{err}"
            outputs.append(out)
        return outputs

    def document(self, *arguments: str | Path) -> Any:
        """The JSON that a command prints."""
        return json.loads(self.call(*arguments, "--json"))

    def start(self, name: str, *arguments: str | Path) -> None:
        """A command that runs until it is stopped; what it says goes to `NAME.log`."""
        self.start_line(name, self.command(*arguments))

    def start_line(self, name: str, line: Sequence[str]) -> None:
        """The same for any command line. It ends with this process, however that ends."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                tethered(list(line)), cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def end(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends a command that runs, and waits for it."""
        process = self.running.pop(name)
        process.send_signal(how)
        process.wait(60)

    def close(self) -> None:
        """Ends everything, the institutions first."""
        for name in sorted(self.running, key=lambda one: one == "serve"):
            self.end(name)

    def serve(self) -> None:
        """The operator's side."""
        self.start("serve", "coordinator", "serve", "--home", "operator")

    def take_part(self, *names: str, poll: str = "--fast-poll") -> None:
        """Institutions' sides: all of them, or those named."""
        for name in names or self.names:
            self.start(name, "client", "run", "--institution", name, *([poll] if poll else []))

    def run_state(self, run: str) -> dict[str, Any]:
        """A run as the registry has it."""
        found = self.document("coordinator", "runs", "--registry", self.operator / "registry.db")["runs"]
        return next(one for one in found if one["run"] == run)

    def wait_for(self, run: str, holds: Callable[[dict[str, Any]], bool], seconds: float = 300.0, pause: float = 1.0) -> dict[str, Any]:
        """The run once it is so; fails with what the processes said. Each look, after a pause, is a process of its own."""
        end = time.monotonic() + seconds
        while not holds(found := self.run_state(run)):
            assert time.monotonic() < end, f"{found}\n{self.said()}"
            assert not found["ended_at"], f"{found}\n{self.said()}"
            time.sleep(pause)
        return found

    def said(self) -> str:
        """The ends of all logs."""
        logs = [*sorted(self.folder.glob("*.log")), *sorted(self.folder.glob("*/logs/*.log"))]
        return "\n".join(f"== {path.relative_to(self.folder)}\n{_tail(path)}" for path in logs)


D = TypeVar("D", bound=Deployment)


def stand_up(made: D) -> D:
    """An operator that serves, and institutions that joined and accepted one another; none of them runs yet."""
    folder, names = made.folder, made.names
    made.call("coordinator", "init", "--home", "operator", "--host", "localhost")
    _set(
        made.operator / "coordinator.toml",
        listen='"127.0.0.1"',
        **{f"{name}_port": str(free_port()) for name in ("fence", "service", "superlink")},
    )
    made.serve()
    made.call_each([("coordinator", "invite", name, "--home", "operator", "--out", f"{name}.invitation") for name in names])
    said = made.call_each([("client", "init", "--invite", f"{name}.invitation", "--institution", name, "--json") for name in names])
    words = {name: json.loads(text)["fingerprint"] for name, text in zip(names, said, strict=True)}
    made.call_each([("coordinator", "participants", "approve", name, "--home", "operator", "--fingerprint", words[name]) for name in names])
    made.call_each([("client", "status", "--institution", name) for name in names])
    for other in names:
        made.call_each(
            [("client", "roster", "accept", other, "--fingerprint", words[other], "--institution", name) for name in names if name != other]
        )
    for name in names:
        _set(folder / name / "connection.toml", runtime_port=str(free_port()))
    return made


def _set(path: Path, **values: str) -> None:
    """Changes keys of a settings file, as a person would by hand."""
    text = path.read_text()
    for key, value in values.items():
        text, count = re.subn(rf"^{key} = [^#\n]*", f"{key} = {value}  ", text, flags=re.MULTILINE)
        assert count == 1, key
    path.write_text(text)


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-15:])
