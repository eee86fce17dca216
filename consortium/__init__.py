"""The front door: the one place where institutions and coordinator meet in a process. The researcher's API, loaded when used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from consortium.simulation import simulate
    from model.checkpoint.loading import load_checkpoint
    from protocols.secagg import run_secagg

_HOME = {"simulate": "consortium.simulation", "load_checkpoint": "model.checkpoint.loading", "run_secagg": "protocols.secagg"}

__all__ = ["load_checkpoint", "run_secagg", "simulate"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'consortium' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
