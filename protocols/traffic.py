"""How many bytes one institution sends in a round: those of its sums' vectors, which follow from plan and base."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

import numpy as np

from protocols.schedule import PlannedSum, planned_sums
from protocols.state import State
from protocols.terms import Terms


def round_bytes(terms: Terms, state: State) -> Iterator[tuple[int, int]]:
    """Each round from 0 on, with the bytes that each of its sums takes once, one way and for one institution.

    Signatures and keys, a few kilobytes, are not counted, nor are repeated attempts.

    Args:
        state: whose experts are adapted; before they are chosen, theirs are not counted.
    """
    first = PlannedSum(1, "update", False)
    ranges = terms.rule.basis(terms.plan, first, terms.adaptation.layout(state.experts))  # on which a second sum is projected
    based = replace(state, basis={name: np.broadcast_to(np.float32(0), shape) for name, shape in ranges.items()})
    for number, sums in groupby(planned_sums(terms.plan), lambda planned: planned.round):
        yield number, sum(terms.lanes(based, planned).format.nbytes for planned in sums)
