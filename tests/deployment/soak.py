"""A long run whose processes are killed at random: `python -m tests.deployment.soak --institutions 8 --rounds 50`.

Every few seconds one process of the deployment gets `kill -9`. The run must end by itself with every institution in every sum, its
registry and all ledgers verified; the summary says what was killed, and what it cost.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.deployment.killable import Killable, stand_up_killable

KINDS = ("node", "supernode", "run", "superlink", "serve")
ENDED = r"is finished|failed:"


def soak(deployment: Killable, run: str, pauses: tuple[float, float], seed: int, seconds: float) -> dict[str, Any]:
    """Kills at random until the run is over; figures of what came of it.

    Args:
        pauses: shortest and longest time between two kills, in seconds.
        seconds: the longest that the run may take.
    """
    draw, begun, kills = random.Random(seed), time.monotonic(), Counter[str]()
    while not _ended_within(deployment, run, draw.uniform(*pauses)):
        assert time.monotonic() - begun < seconds, deployment.said()
        kind = draw.choice(KINDS)
        deployment.kill(kind, draw.choice(deployment.names) if kind in ("node", "supernode") else "serve")
        kills[kind] += 1
    rounds, said = deployment.finish(run), deployment.log(run)
    return {
        "rounds": len(rounds) - 1,
        "institutions": sorted({one["institutions"] for one in rounds}),
        "seconds": round(time.monotonic() - begun),
        "kills": dict(sorted(kills.items())),
        "attempts after the first": len(set(re.findall(r"round (\d+, \w+ sum, attempt \d+)", said))),
        "waits": said.count(" waits: "),
        "state": rounds[-1]["state_sha256"],
    }


def _ended_within(deployment: Killable, run: str, seconds: float) -> bool:
    return _within(seconds, lambda: re.search(ENDED, deployment.log(run)) is not None)


def _within(seconds: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.2)
    return holds()


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.deployment.soak", description=__doc__)
    parser.add_argument("--institutions", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--pauses", type=float, nargs=2, default=(10.0, 60.0))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hours", type=float, default=4.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        deployment = stand_up_killable(Path(folder), given.institutions)
        try:
            run = deployment.submit("soak", rounds=given.rounds, quorum=given.institutions, deadline="10m")
            print(json.dumps(soak(deployment, run, tuple(given.pauses), given.seed, given.hours * 3600), indent=1))
        finally:
            deployment.close()


if __name__ == "__main__":
    main()
