"""The baselines' own process: started beside the federation, each finished figure read from its file."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from consortium.errors import SimulationError
from consortium.report import Baselines, Figures
from consortium.workplace import Workplace


@dataclass(frozen=True, slots=True)
class BaselineProgress:
    """Rounds done of one baseline: an institution's name, or pooled."""

    name: str
    done: int
    total: int


class BaselineProcess:
    """Trains what the federation is compared with, in a process of its own with one thread."""

    def __init__(self, place: Workplace, on_round: Callable[[BaselineProgress], None], environment: Mapping[str, str]) -> None:
        self._place = place
        self._on_round = on_round
        place.baselines.mkdir(exist_ok=True)
        arguments = [str(path) for path in (place.plan_file, place.institutions, place.baselines)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(  # noqa: S603 (our own module and paths)
                [sys.executable, "-P", "-m", "consortium.baselines", *arguments],
                stdin=subprocess.PIPE,  # never written to: its end tells the process that this one is gone, killed or not
                stdout=subprocess.PIPE,
                stderr=log,
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
        failed = self._process.wait()
        self._reader.join()
        if failed:
            raise SimulationError(f"the baselines stopped early; {self._log} says why, and --no-baselines leaves them out")
        return read_baselines(self._place)

    def stop(self) -> None:
        """Ends the process if it still runs; finished figures stay."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    @property
    def _log(self) -> Path:
        return self._place.baselines / "log.txt"

    def _read(self) -> None:
        for line in self._process.stdout or ():
            try:
                progress = BaselineProgress(**json.loads(line))
            except (ValueError, TypeError):
                continue  # a library's own chatter is no progress
            self._on_round(progress)


def read_baselines(place: Workplace) -> Baselines:
    """The figures that are on disk."""
    local = {}
    for name in place.names:
        found = _read_figures(place.baselines / f"local-{name}.json")
        if found:
            local[name] = Figures(found["union"], found["own"])
    pooled = _read_figures(place.baselines / "pooled.json")
    return Baselines(local, pooled["union"] if pooled else None)


def _read_figures(path: Path) -> dict[str, float] | None:
    if not path.exists():
        return None
    figures: dict[str, float] = json.loads(path.read_text())
    return figures
