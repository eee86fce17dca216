"""How far a training has come: all that its next steps read, as arrays that a file can hold. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands after a step, counted from 1; the names of arrays are those of `model.resuming`."""

    step: int
    arrays: Mapping[str, NDArray[np.generic]]
    loss_sum: float
    examples: int
    target_tokens: int


class Keeper(Protocol):
    """Whoever keeps a training's progress where a kill does not reach it."""

    @property
    def begin(self) -> Progress | None:
        """What the training goes on from; None for its start."""

    def after_step(self, progress: Callable[[], Progress]) -> Any:
        """Called after each step; `progress` copies what it takes, and is called only where it is to be kept."""


def steps_done(keeper: Keeper | None) -> int:
    """Steps that are not taken again."""
    return keeper.begin.step if keeper is not None and keeper.begin is not None else 0
