"""The front door, and the one place where both sides of the federation meet. The researcher's API, loaded when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {"simulate": "consortium.simulation", "load_checkpoint": "model.checkpoint", "run_secagg": "protocols.secagg"}

__all__ = ["load_checkpoint", "run_secagg", "simulate"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'consortium' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
