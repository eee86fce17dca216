"""How long each stage of a run's sums took, added up in a small file: what the registry does not keep and operators want to see."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from coordinator.events import Event, InstitutionAnswered, StageBegun, StageFinished
from protocols.files import write_file

Times = Mapping[str, tuple[int, float]]  # stage -> how often it ended, seconds together


class StageTimes:
    """Told of a run's events one after the other; a run that goes on in another process goes on counting."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._since = clock()
        self._times = dict(read_times(path))

    def note(self, event: Event) -> None:
        """A stage has taken the time since the one before, or what else came to an end. A full disk costs the figure and nothing else."""
        if isinstance(event, StageBegun | InstitutionAnswered):
            return
        now = self._clock()
        if isinstance(event, StageFinished):
            count, seconds = self._times.get(event.stage, (0, 0.0))
            self._times[event.stage] = (count + 1, seconds + now - self._since)
            with suppress(OSError):
                write_file(self._path, json.dumps(self._times).encode())
        self._since = now


def read_times(path: Path) -> Times:
    """What was written; nothing where there is no such file or it cannot be read."""
    try:
        return {str(stage): (int(count), float(seconds)) for stage, (count, seconds) in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
