"""The loop's optimiser steps, its balancing, and the affinity that chooses experts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from model.adapters import adapter_state, attach_adapters, load_adapter, parameters_of, set_trainable
from model.errors import ConfigError
from model.experts import gate_affinity, token_affinity
from model.layout import AdapterConfig
from model.loss import Loss
from model.training import Batch, LossTerms, train
from tests.model.configurations import random_network, random_tokens


def batch(seed: int, padded: int = 0) -> Batch:
    tokens = random_tokens(seed, 4, 12)
    valid = torch.ones_like(tokens, dtype=torch.bool)
    if padded:
        valid[:, -padded:] = False
    return Batch(tokens, tokens.masked_fill(~valid, -100), valid)


def recorder(losses: list[float]) -> Callable[[int, Loss], None]:
    return lambda step, loss: losses.append(float(loss.main.detach()))


def test_the_loss_falls_and_equal_batches_give_equal_bits() -> None:
    runs = []
    for _ in range(2):
        net = random_network()
        losses: list[float] = []
        train(net, [batch(1)] * 8, learning_rate=5e-3, on_step=recorder(losses))
        runs.append((losses, net.lm_head.weight.detach()))
    assert runs[0][0][-1] < 0.9 * runs[0][0][0]
    assert runs[0][0] == runs[1][0]
    assert torch.equal(runs[0][1], runs[1][1])


def test_the_first_step_is_adamw_s() -> None:
    net = random_network()
    before = net.model.norm.weight.detach().clone()
    train(net, [batch(2)], learning_rate=1e-3, weight_decay=0.9)
    assert torch.allclose((net.model.norm.weight.detach() - before).abs(), torch.tensor(1e-3), rtol=1e-2)  # a vector is not decayed


def test_what_an_interrupted_run_left_behind_has_no_part_in_the_next() -> None:
    def interrupted(step: int) -> float:
        raise KeyboardInterrupt

    fresh, broken = (random_network().bfloat16() for _ in range(2))
    with pytest.raises(KeyboardInterrupt):
        train(broken, [batch(1)], learning_rate=interrupted)
    assert all(parameter.dtype == torch.bfloat16 and parameter.grad is None for parameter in broken.parameters())
    broken.loss(batch(2).input_ids, batch(2).targets).total.backward()
    for net in (fresh, broken):
        train(net, [batch(3)], learning_rate=1e-2)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(fresh.parameters(), broken.parameters(), strict=True))


def test_the_proximal_term_holds_back() -> None:
    moved = []
    for proximal in (0.0, 1.0, 100.0):
        net = random_network()
        before = net.lm_head.weight.detach().clone()
        train(net, [batch(3), batch(4), batch(5), batch(6)], learning_rate=1e-2, proximal=proximal)
        moved.append(float((net.lm_head.weight.detach() - before).norm()))
    assert moved[2] < 0.8 * moved[0] and moved[2] < 0.9 * moved[1]


def test_corrections_move_what_a_step_moved_and_nothing_else() -> None:
    ends = []
    for size in (0.0, 2.0):
        net = random_network()
        net.requires_grad_(False)
        net.lm_head.requires_grad_(True)
        trained, frozen = net.get_parameter("lm_head.weight"), net.get_parameter("model.norm.weight")
        net.idle = idle = nn.Parameter(torch.zeros(3, 3))  # in no step's graph
        corrections = {parameter: torch.full_like(parameter, size) for parameter in (trained, frozen, idle)}
        train(net, [batch(3)], learning_rate=lambda step: 1e-2, corrections=corrections if size else None)
        ends.append([parameter.detach().clone() for parameter in (trained, frozen, idle)])
    plain, corrected = ends
    assert torch.allclose(plain[0] - 2e-2, corrected[0], atol=1e-6)
    assert torch.equal(plain[1], corrected[1]) and torch.equal(plain[2], corrected[2])


def test_of_a_correction_for_a_held_rank_the_leading_part_counts() -> None:
    net, name = random_network(), "lm_head.lora_A.weight"
    attach_adapters(net, AdapterConfig(lora_rank=3, targets=("lm_head",)), {})
    rng = np.random.default_rng(0)
    load_adapter(net, {name: rng.normal(0, 0.1, values.shape).astype(np.float32) for name, values in adapter_state(net).items()})
    before, correction = adapter_state(net)[name], torch.ones(3, 32)
    set_trainable(net, [name], held_rank=2)
    train(net, [batch(3)], learning_rate=1e-4, corrections={parameters_of(net, [name])[name]: correction * 100})
    moved = adapter_state(net)[name] - before
    assert np.allclose(moved[:2], -1e-2, atol=2e-4) and not moved[2:].any()


def test_balancing_moves_the_bias_only_when_asked() -> None:
    net = random_network()
    before = net.routers()[1].e_score_correction_bias.clone()
    train(net, [batch(7)], learning_rate=1e-3)
    assert torch.equal(net.routers()[1].e_score_correction_bias, before)
    train(net, [batch(7)], learning_rate=1e-3, terms=LossTerms(bias_update_speed=0.01))
    assert not torch.equal(net.routers()[1].e_score_correction_bias, before)


def test_affinity_counts_real_tokens_and_gate_weight() -> None:
    net = random_network(num_nextn_predict_layers=1)
    tokens, gates = token_affinity(net, [batch(8, padded=3)]), gate_affinity(net, [batch(8, padded=3)])
    assert tokens.keys() == {1, 2, 3}
    assert float(tokens[1].sum()) == 4 * 9 * 2
    assert torch.allclose(gates[1].sum(), torch.tensor(36.0, dtype=torch.float64))


def test_padding_has_no_part_in_the_balance_loss() -> None:
    net, tokens = random_network(), random_tokens(9, 2, 12)
    valid = torch.ones_like(tokens, dtype=torch.bool)
    valid[:, 8:] = False
    padded = net.loss(tokens, tokens, valid=valid, balance_weight=1.0).balance
    assert torch.allclose(padded, net.loss(tokens[:, :8], tokens[:, :8], balance_weight=1.0).balance, rtol=1e-5)
    assert not torch.allclose(padded, net.loss(tokens, tokens, balance_weight=1.0).balance, rtol=1e-3)


def test_a_bias_that_is_not_there_is_refused_before_the_first_step() -> None:
    net = random_network(architecture="DeepseekV2ForCausalLM", scoring_func="softmax", topk_method="greedy", norm_topk_prob=False)
    before = net.lm_head.weight.detach().clone()
    with pytest.raises(ConfigError, match="no selection bias"):
        train(net, [batch(7)], learning_rate=1e-3, terms=LossTerms(bias_update_speed=0.01))
    assert torch.equal(net.lm_head.weight, before)
