"""Routing, balancing and the balance loss."""

from __future__ import annotations

import torch

from model.config import ModelConfig
from model.moe import MoE
from model.routing import Router, Routing, balance_loss, update_bias
from tests.model.configurations import SMALL


def test_the_bias_selects_but_does_not_weigh() -> None:
    router = Router(ModelConfig(**SMALL))
    torch.nn.init.normal_(router.weight, generator=torch.Generator().manual_seed(0))
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))
    router.e_score_correction_bias[3] = 100.0
    routing = router(x)
    assert bool((routing.indices == 3).any(1).all())
    assert torch.allclose(routing.weights.sum(1), torch.ones(5)) and float(routing.weights.detach().max()) < 1.0


def test_with_negative_biases_rejected_groups_stay_rejected() -> None:
    router = Router(ModelConfig(**{**SMALL, "n_group": 4, "topk_group": 2}))
    torch.nn.init.normal_(router.weight, generator=torch.Generator().manual_seed(0))
    router.e_score_correction_bias.fill_(-5.0)
    groups = router(torch.randn(64, 32)).indices // 2
    assert all(len(set(row)) <= 2 for row in groups.tolist())


def test_bias_update_raises_the_idle_and_lowers_the_busy() -> None:
    router = Router(ModelConfig(**SMALL))
    update_bias(router, torch.tensor([9, 1, 5, 5, 5, 5, 5, 5]), 0.1)
    assert torch.allclose(router.e_score_correction_bias, torch.tensor([-0.1, 0.1, 0, 0, 0, 0, 0, 0]))


def test_balance_loss_is_one_for_an_even_load_and_rises_with_skew() -> None:
    even = Routing(torch.ones(8, 1), torch.arange(8)[:, None], torch.full((8, 8), 0.5))
    skewed = Routing(torch.ones(8, 1), torch.zeros(8, 1, dtype=torch.long), torch.eye(8)[torch.zeros(8, dtype=torch.long)])
    assert float(balance_loss(even, 1)) == 1.0
    assert float(balance_loss(skewed, 1)) == 8.0


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
