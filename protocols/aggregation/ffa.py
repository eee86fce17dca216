"""Factor A stays as it was drawn, B is averaged: exact in every round, with half the bytes (FFA-LoRA, Sun et al. 2024, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

from protocols.aggregation.base import Rule, Tensor


class FFA(Rule):
    """B and what is trained in full, in every round."""

    def trained(self, round_number: int, layout: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(tensor for tensor in layout if tensor.kind in ("lora_B", "full"))
