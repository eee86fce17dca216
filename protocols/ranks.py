"""Which leading slices of its LoRA pairs an institution holds, and how many of them a round sums (PROTOCOL, section 3, parts).

Slice j of a pair is row j of A and column j of B. With `trainable.ranks = "nested"` an institution trains the leading slices that its
own hardware allows. A slice that few hold would be theirs alone in everybody's total, so that the pre-round counts who holds
which, and the update leaves out whatever too few hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from protocols.aggregation import Tensor
from protocols.encoding import Block, Total
from protocols.parts import Survivors, fewest_contributors, part_lane
from protocols.plan import Plan
from protocols.state import Experts, PreRound, State, Tensors

LANE = "held_ranks"


def plan_ranks(plan: Plan) -> Mapping[str, int]:
    """The plan's key -> rank, of everything that LoRA adapts."""
    trainable, ranks = plan.trainable, dict[str, int]()
    if set(trainable.targets) - ({"embeddings"} if trainable.embedding_mode == "full" else set()):
        ranks["trainable.lora_rank"] = trainable.lora_rank
    ranks |= {f"trainable.rank_pattern of {module}": rank for module, rank in sorted(trainable.rank_pattern.items())}
    if trainable.experts != "none" and trainable.expert_mode == "lora":
        ranks["trainable.expert_rank"] = trainable.expert_rank
    return ranks


def largest_rank(plan: Plan) -> int:
    """Slices of the plan's widest pair; 0 where LoRA adapts nothing."""
    return max(plan_ranks(plan).values(), default=0)


def held_rank(plan: Plan, max_rank: int | None) -> int | None:
    """Leading slices of every pair that an institution trains; None for all of them.

    Args:
        max_rank: the largest rank that its hardware allows; None for any.
    """
    return max_rank if plan.trainable.ranks == "nested" else None


def rank_blocks(plan: Plan) -> tuple[Block, ...]:
    """Lanes of the pre-round: one exact integer, 0 or 1, for each slice of the widest pair; none where all hold the same."""
    slices = largest_rank(plan) if plan.trainable.ranks == "nested" else 0
    return (Block(LANE, (slices,), 1.0, True),) if slices else ()


def expert_slices(plan: Plan) -> int | None:
    """Slices of an expert's pair whose contributors are counted one by one; None where an expert is counted as a whole."""
    return plan.trainable.expert_rank if plan.trainable.ranks == "nested" and plan.trainable.expert_mode == "lora" else None


def held_slices(slices: int, held: int | None) -> NDArray[np.float64]:
    """[slices]: 1 for each slice that is held."""
    return (np.arange(slices) < (slices if held is None else held)).astype(np.float64)


def kept_rank(counts: NDArray[np.float64], survivors: Survivors) -> int:
    """Leading slices that enough institutions hold, from how many hold each.

    Nobody holds a slice without those before it: counts that rise, or are above the number of institutions, are a lie and keep nothing.
    """
    members = len(survivors.members)
    if np.any(np.diff(counts, prepend=members) > 0):
        return 0
    return int(np.sum(counts >= fewest_contributors(survivors.colluding, survivors.threshold, members)))


def kept_experts(experts: Experts, total: Total, rank: int, survivors: Survivors) -> Experts:
    """The experts of which enough institutions trained every slice that the round sums; the total's lanes are [experts, slices]."""
    return {
        layer: tuple(
            e
            for e, counts in zip(chosen, total[part_lane(layer)], strict=True)
            if 0 < min(rank, len(counts)) <= kept_rank(counts, survivors)
        )
        for layer, chosen in experts.items()
    }


def summed_slices(pre_round: PreRound | None, held: int | None) -> int | None:
    """Leading slices that an institution which holds `held` sends in a round's update; None for all."""
    limits = [limit for limit in (_summed(pre_round), held) if limit is not None]
    return min(limits) if limits else None


def leading_slices(values: Tensors, layout: Sequence[Tensor], rank: int | None) -> dict[str, NDArray[np.float32]]:
    """The same values by tensor with zeros in every slice from `rank` on; of tensors that are no factor, all of them."""
    kept = dict(values)
    for tensor in layout:
        rest = _rest(tensor, rank)
        if rest is not None and tensor.name in kept:
            kept[tensor.name] = kept[tensor.name].copy()
            kept[tensor.name][rest] = 0.0
    return kept


def with_slices_of(before: State, after: State, layout: Sequence[Tensor]) -> State:
    """`after` with each slice that its pre-round leaves out as it is in `before`, moments of the server's optimiser too."""
    rank = _summed(after.pre_round)
    if rank is None:
        return after
    tensors = _joined(before.tensors, after.tensors, layout, rank)
    momentum = _joined(before.momentum, after.momentum, layout, rank)
    return replace(
        after, tensors=tensors, momentum=momentum, second_moments=_joined(before.second_moments, after.second_moments, layout, rank)
    )


def _joined(before: Tensors, after: Tensors, layout: Sequence[Tensor], rank: int) -> Tensors:
    """Leading slices of `after`, the others of `before`, or zero where there was nothing before."""
    joined = leading_slices(after, layout, rank)
    for tensor in layout:
        rest = _rest(tensor, rank)
        if rest is not None and tensor.name in joined and tensor.name in before:
            joined[tensor.name][rest] = before[tensor.name][rest]
    return joined


def _summed(pre_round: PreRound | None) -> int | None:
    return None if pre_round is None else pre_round.rank


def _rest(tensor: Tensor, rank: int | None) -> tuple[slice, ...] | None:
    """Where a factor's slices from `rank` on are; None of a tensor that has no slices, or where there is no limit."""
    if rank is None or tensor.kind not in ("lora_A", "lora_B"):
        return None
    return (slice(rank, None),) if tensor.kind == "lora_A" else (slice(None), slice(rank, None))
