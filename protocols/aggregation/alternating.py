"""One LoRA factor a round: exact under sums only (RoLoRA, Chen et al. 2025, section 3).

All institutions hold the same other factor, so the mean of their products is the product with the mean factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.aggregation.base import Rule, Tensor


@dataclass(frozen=True, slots=True)
class Alternating(Rule):
    """B in odd turns, A in even ones; tensors trained in full take part in every round.

    A turn is as many rounds as there are batches of institutions, so that every batch trains both factors.
    """

    batches: int = 1

    def trained(self, round_number: int, layout: Sequence[Tensor]) -> tuple[Tensor, ...]:
        turn = (round_number - 1) // self.batches + 1
        factor = "lora_B" if turn % 2 else "lora_A"
        return tuple(tensor for tensor in layout if tensor.kind in (factor, "full"))
