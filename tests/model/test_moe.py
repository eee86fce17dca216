"""The mixture against its definition."""

from __future__ import annotations

import torch

from model.config import ModelConfig
from model.moe import MoE
from tests.model.configurations import SMALL


def test_the_sum_over_experts_is_the_definition() -> None:
    moe = MoE(ModelConfig(**SMALL))
    for parameter in moe.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    x = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(2))
    out, routing = moe(x)
    expected = moe.shared_experts(x).flatten(0, 1)
    for token, row in enumerate(x.flatten(0, 1)):
        for weight, expert in zip(routing.weights[token], routing.indices[token], strict=True):
            gate, up = (moe.experts.gate_up_proj[expert] @ row).chunk(2)
            expected[token] = expected[token] + weight * (moe.experts.down_proj[expert] @ (torch.nn.functional.silu(gate) * up))
    assert torch.allclose(out.flatten(0, 1), expected, atol=1e-5)
