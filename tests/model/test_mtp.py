"""Multi-token prediction against a second, literal writing of its definition."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from model.layers import rotation
from model.loss import LogitAdjustment
from model.mtp import MTPModule
from tests.model.configurations import random_network, random_tokens, relative_error


def test_each_depth_follows_its_definition() -> None:
    net, tokens = random_network(num_nextn_predict_layers=2), random_tokens(6, 2, 12)
    hidden = net.hidden(tokens).main
    for depth, module in enumerate(net.mtp, start=1):
        assert isinstance(module, MTPModule)
        rows = []
        for i in range(12 - depth):
            pair = torch.cat([module.enorm(net.model.embed_tokens(tokens[:, i + depth])), module.hnorm(hidden[:, i])], -1)
            rows.append(module.eh_proj(pair))
        x = torch.stack(rows, 1)
        turn = rotation(net.config, torch.arange(x.shape[1])[None], x.dtype)
        x = x + module.self_attn(module.input_layernorm(x), turn, None)
        hidden = module.shared_head.norm(x + module.mlp(module.post_attention_layernorm(x))[0])
        assert relative_error(net(tokens).mtp_logits[depth - 1], net.lm_head(hidden)) < 1e-5


def test_the_loss_of_a_depth_is_on_the_token_further_ahead() -> None:
    net, tokens = random_network(num_nextn_predict_layers=1), random_tokens(7, 2, 12)
    targets = tokens.clone()
    targets[0, :6] = -100
    logits = net(tokens).mtp_logits[0][:, :-1]  # entry i predicts token i + 2
    expected = F.cross_entropy(logits.flatten(0, 1), targets[:, 2:].flatten(), ignore_index=-100)
    loss = net.loss(tokens, targets, mtp_weight=0.5)
    assert torch.allclose(loss.mtp, expected, atol=1e-5)
    assert torch.allclose(loss.total, loss.main + 0.5 * expected, atol=1e-5)


def test_every_module_gets_a_gradient() -> None:
    net, tokens = random_network(num_nextn_predict_layers=2), random_tokens(8, 2, 12)
    net.loss(tokens, tokens).total.backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_an_adjustment_follows_its_targets_to_every_depth() -> None:
    net, tokens = random_network(num_nextn_predict_layers=1), random_tokens(9, 2, 6)
    targets = torch.full_like(tokens, -100)
    targets[0, 1], targets[0, 4], targets[1, 3] = tokens[0, 1], tokens[0, 4], tokens[1, 3]
    adjustment = LogitAdjustment(torch.tensor([0, 1, 2]), torch.tensor([5, 6, 7]), torch.tensor([9.0, 3.0, 4.0]))
    logits = net(tokens).mtp_logits[0].clone()  # entry i predicts token i + 2, so the target at position 1 has no state
    logits[0, 2, 6] += 3.0
    logits[1, 1, 7] += 4.0
    expected = F.cross_entropy(torch.stack([logits[0, 2], logits[1, 1]]), torch.stack([tokens[0, 4], tokens[1, 3]]))
    assert torch.allclose(net.loss(tokens, targets, adjustment=adjustment).mtp, expected, atol=1e-5)


def test_weight_zero_leaves_the_modules_out() -> None:
    net, tokens = random_network(num_nextn_predict_layers=1), random_tokens(10, 2, 12)
    loss = net.loss(tokens, tokens, mtp_weight=0.0)
    loss.total.backward()
    assert torch.equal(loss.total, loss.main)
    assert net.config.num_hidden_layers not in loss.expert_counts
    assert all(parameter.grad is None for parameter in net.mtp.parameters())
