"""The routers' selection biases against the load of all institutions together (DeepSeek-V3, section 2.1.2; Wang et al. 2024).

The rule reads the counts of a global batch, and a secure sum over institutions is that batch's counts: nothing is approximated.
Institutions keep the biases as they are inside a round.

The lanes of an expert that one institution alone routes to are that institution's count, hidden among zeros that others put in. They
are not zeroed with the parts of a pre-round: every survivor contributes to every lane, a zero being a count like any other, and what
they tell is a number of tokens, as `experts` does of the whole training set; what was learnt from these tokens is in no such lane.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocols.encoding import Block, Total
from protocols.state import State

KIND: Final = "router_bias"  # of its tensors in the adapter's layout; no rule trains or averages them

Layers = Mapping[int, int]  # layer -> routed experts
Counts = Mapping[int, NDArray[np.integer] | NDArray[np.float64]]  # layer -> [E] tokens


def lane(layer: int) -> str:
    """Name of a layer's lanes."""
    return f"routed.{layer}"


def tensor(layer: int) -> str:
    """Name of a layer's tensor in the state: [E] float32, the difference to the base's bias."""
    return f"model.layers.{layer}.mlp.gate.e_score_correction_bias"


def blocks(layers: Layers) -> tuple[Block, ...]:
    """Routed tokens over the plan's cap, in 32 bits whatever an update's deltas have."""
    return tuple(Block(lane(layer), (layers[layer],), 1.0, False) for layer in sorted(layers))


def contribution(routed: Counts, layers: Layers, cap: int) -> dict[str, NDArray[np.float64]]:
    """One institution's lanes: tokens routed to each expert in this round's training, over `cap`; a layer that none reached has zeros."""
    return {lane(layer): np.minimum(routed.get(layer, np.zeros(count)), cap) / cap for layer, count in sorted(layers.items())}


def counts(total: Total, layers: Layers, cap: int) -> Counts:
    """All institutions' tokens: exact integers again, as long as lanes are finer than a token."""
    return {layer: np.rint(total[lane(layer)] * cap) for layer in layers}


def moved(state: State, routed: Counts, speed: float) -> State:
    """b += speed * sign(mean load - load), layer by layer. The sign is taken of integers, so that an expert with the mean load stays."""
    tensors = dict(state.tensors)
    for layer, load in sorted(routed.items()):
        below = np.sign(np.sum(load, dtype=np.float64) - len(load) * np.asarray(load, np.float64))
        tensors[tensor(layer)] = (tensors[tensor(layer)].astype(np.float64) + speed * below).astype(np.float32)
    return replace(state, tensors=tensors)
