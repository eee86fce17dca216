"""A is averaged, B stays at its institution (FedSA-LoRA, Guo et al. 2025, section 4): every institution has a model of its own."""

from __future__ import annotations

from collections.abc import Sequence

from protocols.aggregation import router_bias
from protocols.aggregation.base import Rule, Tensor


class FedSA(Rule):
    """Everything is trained in every round, and all but B is summed."""

    def trained(self, round_number: int, layout: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(tensor for tensor in layout if tensor.kind not in ("lora_B", router_bias.KIND))

    def private(self, layout: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(tensor for tensor in layout if tensor.kind == "lora_B")
