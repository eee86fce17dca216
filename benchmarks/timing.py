"""Times of programs that are run in turns, so that whatever else the machine does falls on all of them alike; and peak memory."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

Work = Callable[[], object]


def interleaved(programs: Mapping[str, Work], repeats: int, clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Median seconds of each program over `repeats` turns, after one turn to warm up; wall-clock, or `time.process_time`'s."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(repeats + 1):
        for name, work in programs.items():
            start = clock()
            work()
            if turn:
                times[name].append(clock() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def resident_peak() -> int:
    """Bytes; VmHWM of Linux and not ru_maxrss, which a process inherits from the one that started it."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    return 1024 * int(found[1]) if found else 0
