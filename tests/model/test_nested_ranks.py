"""A held rank: the leading slices train as in a narrower adapter beside frozen ones, and the others keep their bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.adapters import adapter_state, attach_adapters, load_adapter, set_trainable
from model.layout import AdapterConfig, AdapterError, Experts, adapter_layout
from model.training import Batch, train
from model.transformer import DeepseekV3
from tests.model.configurations import random_network, random_tokens

TARGETS = ("attention", "lm_head", "embeddings")
PAIRS = AdapterConfig(lora_rank=4, targets=TARGETS, expert_rank=3, embedding_mode="lora")
CORES = AdapterConfig(lora_rank=4, targets=TARGETS, embedding_mode="lora", core=True)
CASES: dict[str, tuple[AdapterConfig, Experts]] = {"pairs": (PAIRS, {1: (0, 5), 3: (2,)}), "cores": (CORES, {})}


def adapted(case: str) -> tuple[DeepseekV3, dict[str, np.ndarray]]:
    adapter, experts = CASES[case]
    net = random_network(num_nextn_predict_layers=1, num_experts_per_tok=8)
    attach_adapters(net, adapter, experts)
    rng = np.random.default_rng(0)
    tensors = {t.name: rng.normal(0, 0.3, t.shape).astype(np.float32) for t in adapter_layout(net.config, adapter, experts)}
    load_adapter(net, tensors)
    return net, tensors


def held(name: str, rank: int) -> tuple[slice, ...]:
    return slice(rank if "lora_B" not in name else None), slice(rank if "lora_A" not in name else None)


def batch() -> Batch:
    tokens = random_tokens(3, 4, 12)
    return Batch(tokens, tokens, torch.ones_like(tokens, dtype=torch.bool))


@pytest.mark.parametrize("case", CASES)
def test_the_other_slices_keep_their_bits(case: str) -> None:
    net, tensors = adapted(case)
    before = net(batch().input_ids).logits
    set_trainable(net, tensors.keys(), held_rank=2)
    assert torch.equal(net(batch().input_ids).logits, before)
    train(net, [batch()] * 3, learning_rate=1e-2, weight_decay=0.5, proximal=0.1)
    for name, values in adapter_state(net).items():
        changed = values != tensors[name]
        assert changed[held(name, 2)].any()
        changed[held(name, 2)] = False
        assert not changed.any()


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_the_leading_slices_of_the_whole_ones(case: str) -> None:
    gradients = []
    for rank in (None, 2):
        net, tensors = adapted(case)
        set_trainable(net, tensors.keys(), held_rank=rank)
        net.loss(batch().input_ids, batch().targets).total.backward()
        gradients.append([parameter.grad for parameter in net.parameters() if parameter.requires_grad])
    for whole, leading in zip(*gradients, strict=True):
        assert whole is not None and leading is not None
        assert torch.allclose(whole[tuple(slice(size) for size in leading.shape)], leading, atol=1e-6)


def test_loading_and_holding_come_in_any_order_and_a_rank_that_is_not_there_holds_all() -> None:
    net, tensors = adapted("pairs")
    set_trainable(net, tensors.keys(), held_rank=2)
    other = {name: values + 1 for name, values in tensors.items()}
    load_adapter(net, other)
    for rank in (2, 1, 9, None):
        set_trainable(net, tensors.keys(), held_rank=rank)
        assert all(np.array_equal(values, other[name]) for name, values in adapter_state(net).items())
    trained = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    assert trained == sum(values.size for values in tensors.values())
    with pytest.raises(AdapterError, match="at least 1"):
        set_trainable(net, tensors.keys(), held_rank=0)
