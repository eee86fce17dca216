"""Routing against literal second writings of its rules, and where a wrong rule would show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from model.checkpoint.saving import save_checkpoint
from model.config import ModelConfig
from model.errors import ConfigError
from model.routing import Router, Routing, balance_loss, update_bias
from model.training import balance_load
from tests.model.configurations import DEEPSEEK_V2, GROUPS, SMALL, random_network, random_tokens, relative_error

transformers = pytest.importorskip("transformers")

V2_GROUPS: dict[str, Any] = {**DEEPSEEK_V2, **GROUPS, "topk_method": "group_limited_greedy"}


def make_router(**changes: Any) -> Router:
    router = Router(ModelConfig(**{**SMALL, **changes}))
    torch.nn.init.normal_(router.weight, 0, 0.5, generator=torch.Generator().manual_seed(0))
    return router


def states(rows: int) -> torch.Tensor:
    return torch.randn(rows, SMALL["hidden_size"], generator=torch.Generator().manual_seed(1))


def literal_choice(scores: list[float], bias: list[float], groups: int, kept: int, top_k: int, best: int) -> set[int]:
    """The experts of one token, rule by rule; a group's score is the sum of its `best` largest biased scores."""
    biased, width = [s + b for s, b in zip(scores, bias, strict=True)], len(scores) // groups
    members = [range(group * width, (group + 1) * width) for group in range(groups)]
    ranked = sorted(members, key=lambda group: -sum(sorted((biased[e] for e in group), reverse=True)[:best]))
    return set(sorted((e for group in ranked[:kept] for e in group), key=lambda e: -biased[e])[:top_k])


@pytest.mark.parametrize(("changes", "best"), [({**GROUPS}, 2), (V2_GROUPS, 1)], ids=["v3", "v2"])
def test_the_choice_and_its_weights_follow_the_rules(changes: dict[str, Any], best: int) -> None:
    router, x = make_router(**changes), states(64)
    bias = torch.zeros(16)
    if router.biased:
        bias = torch.randn(16, generator=torch.Generator().manual_seed(2)) * 0.5
        router.e_score_correction_bias.copy_(bias)
    routing = router(x)
    logits = x @ router.weight.T
    scores = logits.sigmoid() if best == 2 else logits.softmax(-1)
    assert torch.allclose(routing.scores, scores, atol=1e-6)
    for row, chosen in enumerate(routing.indices.tolist()):
        assert set(chosen) == literal_choice(scores[row].tolist(), bias.tolist(), 4, 2, 4, best)
    weights = scores.gather(1, routing.indices)
    if best == 2:
        weights = weights / weights.sum(-1, keepdim=True)
    assert torch.allclose(routing.weights, weights * 2.5, atol=1e-5)


def test_the_two_rules_for_a_groups_score_differ() -> None:
    """One strong expert against two good ones: the maximum and the sum of the best two keep different groups."""
    scores = [0.9, 0.0, 0.6, 0.6]
    assert literal_choice(scores, [0.0] * 4, 2, 1, 1, best=1) == {0}
    assert literal_choice(scores, [0.0] * 4, 2, 1, 1, best=2) == {2}


def test_a_rejected_group_wins_nothing_where_every_biased_score_is_negative(tmp_path: Path) -> None:
    net, tokens = random_network(**GROUPS), random_tokens(3, 2, 30)
    for router in net.routers().values():
        router.e_score_correction_bias.sub_(2.0)
    save_checkpoint(net, tmp_path / "negative")
    theirs = transformers.DeepseekV3ForCausalLM.from_pretrained(tmp_path / "negative", dtype=torch.float32)
    expected = theirs(tokens).logits
    assert relative_error(net(tokens).logits, expected) < 1e-4
    for router in net.routers().values():
        router._choose = ZeroMask(router)  # type: ignore[method-assign]
    assert relative_error(net(tokens).logits, expected) > 0.1


class ZeroMask:
    """The choice of older readers: rejected experts masked by 0.0, which outranks every negative biased score."""

    def __init__(self, router: Router) -> None:
        self.router = router

    def __call__(self, choice: torch.Tensor) -> torch.Tensor:
        grouped = choice.unflatten(-1, (self.router.groups, -1))
        best = grouped.topk(2, dim=-1).values.sum(-1).topk(self.router.kept_groups, dim=-1).indices
        kept = torch.zeros_like(grouped[..., 0]).scatter_(1, best, 1.0)
        indices: torch.Tensor = grouped.masked_fill(kept[..., None] == 0, 0.0).flatten(1).topk(self.router.top_k, dim=-1).indices
        return indices


def test_the_bias_selects_but_does_not_weigh() -> None:
    router = make_router()
    router.e_score_correction_bias[3] = 100.0
    routing = router(states(5))
    assert bool((routing.indices == 3).any(1).all())
    assert torch.allclose(routing.weights.sum(1), torch.ones(5)) and float(routing.weights.detach().max()) < 1.0


def test_bias_update_raises_the_idle_and_lowers_the_busy() -> None:
    router = make_router()
    update_bias(router, torch.tensor([9, 1, 5, 5, 5, 5, 5, 5]), 0.1)
    assert torch.allclose(router.e_score_correction_bias, torch.tensor([-0.1, 0.1, 0, 0, 0, 0, 0, 0]))


def test_balance_loss_is_one_for_an_even_load_and_rises_with_skew() -> None:
    even = Routing(torch.ones(8, 1), torch.arange(8)[:, None], torch.full((8, 8), 0.5))
    skewed = Routing(torch.ones(8, 1), torch.zeros(8, 1, dtype=torch.long), torch.eye(8)[torch.zeros(8, dtype=torch.long)])
    assert float(balance_loss(even, 1)) == 1.0
    assert float(balance_loss(skewed, 1)) == 8.0


def test_v2s_balance_loss_is_its_definition() -> None:
    """DeepSeek-V2, section 2.2.3: sum of f_i P_i, f_i = E / (K T) * tokens that chose i, P_i = mean of s_i, for each sequence."""
    router, x = make_router(**DEEPSEEK_V2), states(24)
    routing = router(x)
    scores = (x @ router.weight.T).softmax(-1)
    losses = []
    for part, chosen in zip(scores.split(12), routing.indices.split(12), strict=True):
        load = F.one_hot(chosen, 8).sum((0, 1)) * 8 / (2 * 12)
        losses.append((load * part.mean(0)).sum())
    assert torch.allclose(balance_loss(routing, 2), torch.stack(losses).mean(), rtol=1e-5)


def test_without_a_bias_there_is_none_to_move() -> None:
    router = make_router(**DEEPSEEK_V2)
    with pytest.raises(ConfigError, match="e_score_correction_bias"):
        update_bias(router, torch.ones(8), 0.1)
    net, tokens = random_network(**DEEPSEEK_V2), random_tokens(5, 2, 8)
    with pytest.raises(ConfigError, match="bias_update_speed"):
        balance_load(net, net.loss(tokens, tokens).expert_counts, 0.1)
    assert not any("e_score_correction_bias" in name for name in net.state_dict())


def test_the_bias_keeps_its_type_and_its_bits() -> None:
    router = random_network().routers()[1]
    before = router.e_score_correction_bias.clone()
    router.bfloat16()
    assert router.weight.dtype == torch.bfloat16 and torch.equal(router.e_score_correction_bias, before)


def test_scores_that_vanish_give_weights_of_zero() -> None:
    router = Router(ModelConfig(**SMALL))
    with torch.no_grad():
        router.weight.fill_(-10.0)
        assert not router(torch.ones(1, 32)).weights.any()
