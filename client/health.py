"""Whether an institution's side works, asked from beside it on the same machine: for containers' and monitors' health checks."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from pathlib import Path

from client.only_node import is_held, node_lock, supernode_lock
from client.settings import load_settings

SILENT_SECONDS = 600.0  # a SuperNode that does not come round for so long hangs; large messages take minutes
SUPERNODE, NODE = "supernode", "node"
PARTS = (SUPERNODE, NODE)
# How old a sign of life may be. The node has one with each poll, and with each heartbeat while it trains.
_OLDEST: Mapping[str, float] = {SUPERNODE: SILENT_SECONDS, NODE: 180.0}
_SIGNS: Mapping[str, str] = {SUPERNODE: "alive", NODE: "answered"}


def problem_of(folder: Path, parts: Collection[str] = PARTS) -> str | None:
    """What does not work, in a sentence; None where all of it does. Nobody outside the machine is asked.

    Raises:
        SettingsError: the node is asked about, and institution.toml cannot be read.
    """
    if not folder.is_dir():
        return f"{folder} does not exist; give the folder of an institution, or of its SuperNode, with --institution"
    return next((problem for part in parts if (problem := _problem(folder, part)) is not None), None)


def _problem(folder: Path, part: str) -> str | None:
    seconds = age_of(folder / "flower" / _SIGNS[part])
    if seconds == float("inf"):
        return f"the {part} of {folder} has shown no sign of life; start it with `consortium client run`, and see {folder / 'logs'}"
    # A sign is young for minutes after its process was killed. Old ones are told first: to look takes the lock for a moment, which
    # a process that begins would find taken.
    if seconds > _OLDEST[part]:
        return f"the {part} of {folder} has shown no sign of life for {seconds:.0f} s; see {folder / 'logs'}"
    try:
        lives = is_held(_lock(folder, part))
    except PermissionError as error:
        return f"{error.filename}: {error.strerror}; ask as the user who runs the {part}"
    if lives:
        return None
    return f"the {part} of {folder} does not run; `consortium client run` starts it again within a minute where it runs, else start that"


def _lock(folder: Path, part: str) -> Path:
    return supernode_lock(folder) if part == SUPERNODE else node_lock(Path(load_settings(folder / "institution.toml").storage.home))


def age_of(path: Path) -> float:
    """Seconds since a file was touched; endless if it never was."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")
