"""The checkpoint that a plan names, for commands that run without an institution's settings."""

from __future__ import annotations

from pathlib import Path

from consortium.errors import SimulationError
from model.bases import bundled_base, bundled_names
from protocols.plan import Plan


def base_directory(plan: Plan, home: Path) -> Path:
    """The checkpoint of a plan: a bundled base, or a directory relative to the plan.

    Raises:
        SimulationError: there is neither.
    """
    name = plan.base.name
    if name in bundled_names():
        return bundled_base(name)
    if (home / name).is_dir():
        return (home / name).resolve()
    raise SimulationError(f"there is no base {name}: give a checkpoint directory or one of {', '.join(bundled_names())}")
