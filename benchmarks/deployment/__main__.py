"""Seconds of a round of a million parameters over five nodes on this machine, beside stock Flower's FedAvg of as many.

`python -m benchmarks.deployment` runs all; `ours` or `flower` one of both. It uses the machine for some minutes.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.deployment.ours import NAMES, PLAIN, PRE_ROUND, deployment, seconds_of_rounds
from benchmarks.deployment.stock import stock_flower

ROUNDS = 6
ELEMENTS = 1_003_158  # float32; what a plan of rank 78 trains of the bundled base
REJOIN_SECONDS = 5.0


def ours() -> dict[str, float]:
    """Median seconds of a round: institutions that look every 3 s, with and without a pre-round, and four times a second."""
    medians = {}
    with tempfile.TemporaryDirectory() as folder, deployment(Path(folder)) as made:
        for label, poll in (("stock polling", ""), ("fast polling", "--fast-poll")):
            made.take_part(poll=poll)
            for kind in (PLAIN, PRE_ROUND):
                medians[f"{kind.name}, {label}"] = _told(f"{kind.name}, {label}", seconds_of_rounds(made, kind, ROUNDS))
            for name in NAMES:
                made.end(name)
            time.sleep(REJOIN_SECONDS)
    return medians


def flower() -> float:
    """The same of `flwr run`, in subprocess mode as Flower's documentation starts it."""
    with tempfile.TemporaryDirectory() as folder, stock_flower(Path(folder), NAMES) as made:
        return _told("Flower's FedAvg", made.seconds_of_rounds(len(NAMES), ELEMENTS, ROUNDS))


def _told(label: str, seconds: list[float]) -> float:
    each = ", ".join(f"{one:.1f}" for one in seconds)
    print(f"{label}: {statistics.median(seconds):.1f} s a round ({each}); load {os.getloadavg()[0]:.1f}", flush=True)
    return statistics.median(seconds)


def main(which: list[str]) -> None:
    """Prints medians, and ours in terms of Flower's."""
    theirs = flower() if "ours" not in which else None
    for label, seconds in (ours() if "flower" not in which else {}).items():
        if theirs is not None:
            print(f"{label}: {seconds / theirs:.2f} of Flower's")


if __name__ == "__main__":
    main(sys.argv[1:])
