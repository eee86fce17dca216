"""The mixture against its definition."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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


@settings(max_examples=20, deadline=None, derandomize=True)
@given(tokens=st.integers(0, 6), experts=st.integers(1, 4))
def test_few_tokens_and_many_take_the_same_way(tokens: int, experts: int) -> None:
    """Without gradients few tokens are not sorted; no token at all is no error either way."""
    moe = MoE(ModelConfig(**{**SMALL, "num_experts_per_tok": experts}))
    for parameter in moe.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    x = torch.randn(1, tokens, 32, generator=torch.Generator().manual_seed(tokens))
    with torch.no_grad():
        assert torch.allclose(moe(x)[0], _with_gradients(moe, x), atol=1e-5)


@torch.enable_grad()
def _with_gradients(moe: MoE, x: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = moe(x)[0].detach()
    return out
