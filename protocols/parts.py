"""Which parts of an update enough institutions contribute to: the rest is left out before upload (PROTOCOL, section 3, parts).

An expert in a layer, or a slice of rank columns, may have fewer contributors than the sum has survivors. Between the count and
the sum at most |S_pre| - t members drop out and at most c collude, so that `fewest_contributors` leave two honest ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.encoding import Block
from protocols.epoch import threshold as threshold_among
from protocols.errors import PartsError
from protocols.schedule import BOUND_SUMS, PlannedSum
from protocols.state import Experts, PreRound, State

PartCounts = Mapping[int, Mapping[int, int]]  # layer -> expert -> institutions that trained it


@dataclass(frozen=True, slots=True)
class Survivors:
    """Whom a total is of, and the terms of their epoch."""

    members: tuple[str, ...]
    threshold: int
    colluding: int


def fewest_contributors(colluding: int, threshold: int, members: int) -> int:
    """Contributors that a part needs among `members`, of whom threshold many may be left when its sum is opened."""
    return colluding + 2 + (members - threshold)


def kept_parts(counts: PartCounts, survivors: Survivors) -> Experts:
    """The experts that enough institutions trained. A count above the number of institutions is a lie, and keeps nothing."""
    members = len(survivors.members)
    fewest = fewest_contributors(survivors.colluding, survivors.threshold, members)
    return {layer: tuple(e for e, count in sorted(of.items()) if fewest <= count <= members) for layer, of in sorted(counts.items())}


def is_kept(pre_round: PreRound | None, part: tuple[int, int] | None) -> bool:
    """Whether a tensor of this (layer, expert) takes part in the round's update; shared tensors, without an expert, always do."""
    return part is None or pre_round is None or part[1] in pre_round.kept.get(part[0], ())


def update_threshold(pre_round: PreRound, colluding: int) -> int:
    """Fewest institutions that open the update after a pre-round, in an epoch of however few.

    Two sets within the pre-round's that large share an honest institution, which signs one set of the update alone. In the
    difference of two sets, one institution may be the only one that trained an expert.
    """
    return threshold_among(len(pre_round.members), colluding)


def check_update_set(pre_round: PreRound | None, survivors: Survivors) -> None:
    """The parts were counted for any threshold many of the pre-round's set, for no others, and for one set of these alone.

    Raises:
        PartsError: a set that is not within it, or smaller, or of an epoch in which fewer open a sum than `update_threshold`.
    """
    if pre_round is None:
        return
    members, fewest = survivors.members, update_threshold(pre_round, survivors.colluding)
    strangers = sorted(set(members) - set(pre_round.members))
    if strangers:
        raise PartsError(f"{', '.join(strangers)} was not in this round's pre-round and returns with the next round")
    if len(members) < pre_round.threshold:
        raise PartsError(f"a set of {len(members)} is smaller than the {pre_round.threshold} for which this round's parts were counted")
    if survivors.threshold < fewest:
        raise PartsError(
            f"an epoch in which {survivors.threshold} institutions open a sum may not open the update after a pre-round of "
            f"{len(pre_round.members)}; it needs a threshold of {fewest}"
        )


def pre_round_of(planned: PlannedSum, state: State) -> PreRound | None:
    """The pre-round whose members alone may send for a sum; None where every member of an epoch may."""
    return state.pre_round if planned.kind in BOUND_SUMS else None


def part_lane(layer: int) -> str:
    """Name of the lanes that say which of a layer's adapted experts an institution trained."""
    return f"touched.{layer}"


def part_blocks(experts: Experts, slices: int | None = None) -> tuple[Block, ...]:
    """Lanes of the pre-round: one exact integer, 0 or 1, for each adapted expert, or for each of its `slices`."""
    rest = () if slices is None else (slices,)
    return tuple(Block(part_lane(layer), (len(experts[layer]), *rest), 1.0, True) for layer in sorted(experts))


def part_counts(experts: Experts, total: Mapping[str, NDArray[np.float64]]) -> PartCounts:
    """The pre-round's decoded total, by layer and expert."""
    lanes = {layer: total[part_lane(layer)] for layer in experts}
    return {layer: {e: int(count) for e, count in zip(experts[layer], counts, strict=True)} for layer, counts in lanes.items()}
