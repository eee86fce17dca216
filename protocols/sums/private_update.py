"""A private round's update: noised deltas with constant weights; no loss and no count of records is a lane of it.

Under the local mechanism deltas were noised in training. Under the distributed one they are integers: sums of gradients with their noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from protocols.aggregation.base import Tensor, Weights
from protocols.encoding import Block, Total
from protocols.on_demand import OnDemand
from protocols.plan import Plan
from protocols.privacy.distributed import LANE_BOUND, step_scale
from protocols.schedule import learning_rate
from protocols.state import Experts
from protocols.sums import update


def blocks(plan: Plan, round_number: int, trained: Sequence[Tensor], experts: Experts) -> tuple[Block, ...]:
    """The lanes of `protocols.sums.update` without loss and examples."""
    plain = update.blocks(plan.training, learning_rate(plan, round_number), trained, experts)
    kept = tuple(block for block in plain if block.name not in ("loss", "examples"))
    return tuple(_integers(block) for block in kept) if is_distributed(plan) else kept


def is_distributed(plan: Plan) -> bool:
    """Whether lanes hold integers whose noise is added under the sum."""
    return plan.privacy is not None and plan.privacy.mechanism == "distributed"


def dimension_of(trained: Sequence[Tensor]) -> int:
    """Elements that a round trains."""
    return sum(int(np.prod(tensor.shape)) for tensor in trained)


def deltas(plan: Plan, round_number: int, trained: Sequence[Tensor], total: Total) -> Total:
    """The summed deltas by tensor, float64: element-wise, so bit-equal everywhere."""
    summed = update.deltas(total)
    if not is_distributed(plan):
        return summed
    factor = step_scale(plan, dimension_of(trained), learning_rate(plan, round_number))
    return OnDemand(summed, lambda name: summed[name] * factor)


def constant_weights(experts: Experts) -> Weights:
    """1 for everything: how many tokens went to an expert is data."""
    return Weights(1.0, {(layer, expert): 1.0 for layer, chosen in experts.items() for expert in chosen})


def _integers(block: Block) -> Block:
    return Block(block.name, block.shape, float(LANE_BOUND), True) if block.name.startswith(update.delta_lane("")) else block
