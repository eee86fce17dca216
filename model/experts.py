"""How much each routed expert is used on some records: the measure by which ESFT chooses (Wang et al. 2024, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from model.routing import Routing, routed_tokens
from model.training import Batch
from model.transformer import DeepseekV3


def token_affinity(net: DeepseekV3, batches: Iterable[Batch]) -> dict[int, Tensor]:
    """Tokens routed to each expert, layer -> [E] float64; padding does not count."""
    return _affinity(net, batches, weighted=False)


def gate_affinity(net: DeepseekV3, batches: Iterable[Batch]) -> dict[int, Tensor]:
    """Routing weight that each expert got, layer -> [E] float64; padding does not count."""
    return _affinity(net, batches, weighted=True)


@torch.no_grad()
def _affinity(net: DeepseekV3, batches: Iterable[Batch], weighted: bool) -> dict[int, Tensor]:
    total: dict[int, Tensor] = {}
    for batch in batches:
        for layer, routing in net.hidden(batch.input_ids).routings.items():
            used = _use(routing, routed_tokens(routing, batch.valid), weighted)
            total[layer] = total.get(layer, torch.zeros_like(used)) + used
    return total


def _use(routing: Routing, tokens: Tensor, weighted: bool) -> Tensor:
    indices = routing.indices[tokens].flatten()
    weights = routing.weights[tokens].flatten().double() if weighted else torch.ones_like(indices, dtype=torch.float64)
    return torch.zeros(routing.scores.shape[-1], dtype=torch.float64, device=indices.device).index_add(0, indices, weights)
