"""The baselines' own process: started beside the federation, each finished figure read from its file."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from consortium.errors import SimulationError
from consortium.report import Baselines, Figures
from consortium.workplace import Workplace


@dataclass(frozen=True, slots=True)
class BaselineProgress:
    """What the process says about itself: a name (an institution, or pooled), steps done of all."""

    name: str
    done: int
    total: int


class BaselineProcess:
    """Trains what the federation is compared with, in a process of its own with one thread."""

    def __init__(self, place: Workplace, on_event: Callable[[BaselineProgress], None], environment: Mapping[str, str]) -> None:
        self._place = place
        self._on_event = on_event
        place.baselines.mkdir(exist_ok=True)
        arguments = [str(path) for path in (place.plan_file, place.institutions, place.baselines)]
        self._process = subprocess.Popen(  # noqa: S603 (our own module and paths)
            [sys.executable, "-P", "-m", "consortium.baselines", *arguments],
            stdout=subprocess.PIPE,
            stderr=(place.baselines / "log.txt").open("w"),
            text=True,
            env={**environment, "OMP_NUM_THREADS": "1"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def finish(self) -> Baselines:
        """Waits for the last figure.

        Raises:
            SimulationError: the process failed; its log says why.
        """
        if self._process.wait():
            raise SimulationError(f"the baselines stopped early; {self._place.baselines / 'log.txt'} says why, and --no-baselines leaves them out")
        self._reader.join()
        return read_baselines(self._place)

    def stop(self) -> None:
        """Ends the process if it still runs; finished figures stay."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            try:
                fields: dict[str, Any] = json.loads(line)
                progress = BaselineProgress(str(fields["name"]), int(fields["done"]), int(fields["total"]))
            except (ValueError, KeyError, TypeError):
                continue  # a library's own chatter is no progress
            self._on_event(progress)


def read_baselines(place: Workplace) -> Baselines:
    """The figures that are on disk."""
    local = {}
    for name in place.names:
        path = place.baselines / f"local-{name}.json"
        if path.exists():
            content = json.loads(path.read_text())
            local[name] = Figures(content["union"], content["own"])
    pooled = place.baselines / "pooled.json"
    return Baselines(local, json.loads(pooled.read_text())["union"] if pooled.exists() else None)
