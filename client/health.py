"""Whether an institution's side works, asked from beside it on the same machine: for containers' and monitors' health checks."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from pathlib import Path

SILENT_SECONDS = 600.0  # a SuperNode that does not come round for so long hangs; large messages take minutes
SUPERNODE, NODE = "supernode", "node"
PARTS = (SUPERNODE, NODE)
# How old a sign of life may be. The node has one with each poll, and with each heartbeat while it trains.
_OLDEST: Mapping[str, float] = {SUPERNODE: SILENT_SECONDS, NODE: 180.0}
_SIGNS: Mapping[str, str] = {SUPERNODE: "alive", NODE: "answered"}


def problem_of(folder: Path, parts: Collection[str] = PARTS) -> str | None:
    """What does not work, in a sentence; None where all of it does."""
    for part in parts:
        seconds = age_of(folder / "flower" / _SIGNS[part])
        if seconds == float("inf"):
            return f"the {part} of {folder} has shown no sign of life; start it with `consortium client run`, and see {folder / 'logs'}"
        if seconds > _OLDEST[part]:
            return f"the {part} of {folder} has shown no sign of life for {seconds:.0f} s; see {folder / 'logs'}"
    return None


def age_of(path: Path) -> float:
    """Seconds since a file was touched; endless if it never was."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")
