"""Both LoRA factors averaged each round (FedIT, Zhang et al. 2024): the baseline, exact only up to the covariance of the factors."""

from __future__ import annotations

from collections.abc import Sequence

from protocols.aggregation import router_bias
from protocols.aggregation.base import Rule, Tensor


class FedAvg(Rule):
    """Every tensor that gradients train, in every round."""

    def trained(self, round_number: int, layout: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(tensor for tensor in layout if tensor.kind != router_bias.KIND)
