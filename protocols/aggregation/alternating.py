"""One LoRA factor a round: exact under sums only (RoLoRA, Chen et al. 2025, section 3).

All institutions hold the same other factor, so the mean of their products is the product with the mean factor.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocols.aggregation.base import Rule, Tensor


class Alternating(Rule):
    """B in odd rounds, A in even ones; tensors trained in full take part in every round."""

    def trained(self, round_number: int, layout: Sequence[Tensor]) -> tuple[Tensor, ...]:
        factor = "lora_B" if round_number % 2 else "lora_A"
        return tuple(tensor for tensor in layout if tensor.kind in (factor, "full"))
