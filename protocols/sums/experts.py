"""How much each routed expert is used at all institutions together: what federated ESFT chooses by."""

from __future__ import annotations

from collections.abc import Mapping

from protocols.encoding import Block, Total
from protocols.plan import Trainable
from protocols.selection import check_not_flat, select_experts
from protocols.state import Experts


def lane(layer: int) -> str:
    """Name of a layer's lanes."""
    return f"affinity.{layer}"


def blocks(expert_counts: Mapping[int, int]) -> tuple[Block, ...]:
    """The share of each expert in its layer, which adds up to one for an institution."""
    return tuple(Block(lane(layer), (expert_counts[layer],), 1.0, False) for layer in sorted(expert_counts))


def chosen(total: Total, expert_counts: Mapping[int, int], trainable: Trainable) -> Experts:
    """The selection that a decoded total makes, the same at every party.

    Raises:
        FlatRoutingError: it makes none, at every party.
    """
    affinities = {layer: total[lane(layer)] for layer in expert_counts}
    check_not_flat(affinities)
    return select_experts(affinities, trainable.expert_top_p)
