"""Checkpoints that come with the product, each a directory in Hugging Face's layout beside the recipe that made it."""

from __future__ import annotations

from pathlib import Path

from model.errors import BaseError

_HOME = Path(__file__).parent


def bundled_base(name: str) -> Path:
    """The directory of the bundled base `name`.

    Raises:
        BaseError: there is none of that name; the text lists those that exist.
    """
    if name not in bundled_names():
        raise BaseError(f"There is no bundled base {name!r}: give a checkpoint directory or one of {', '.join(bundled_names())}")
    return _HOME / name


def bundled_names() -> tuple[str, ...]:
    """Names of the bundled bases, sorted."""
    return tuple(sorted(path.parent.name for path in _HOME.glob("*/config.json")))
