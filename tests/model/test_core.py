"""Cores: B R A with R trained between factors that stay, in output, merge, starting point and memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from coordinator.adapter_files import adapter_config
from model.adapters import adapter_state, attach_adapters, load_adapter, merge_adapters, set_trainable
from model.layout import AdapterConfig, AdapterError, adapter_layout, initial_adapter
from model.training import Batch, train
from model.transformer import DeepseekV3
from protocols.plan import parse_plan
from tests.model.configurations import random_network, random_tokens, relative_error

TARGETS = ("attention", "shared_experts", "dense_mlp", "lm_head", "embeddings")
CORE = AdapterConfig(lora_rank=3, lora_alpha=6, targets=TARGETS, embedding_mode="lora", core=True)


def adapted() -> tuple[DeepseekV3, dict[str, np.ndarray]]:
    net = random_network(num_nextn_predict_layers=1, tie_word_embeddings=True)
    attach_adapters(net, CORE, {})
    rng = np.random.default_rng(0)
    tensors = {t.name: rng.normal(0, 0.3, t.shape).astype(np.float32) for t in adapter_layout(net.config, CORE, {})}
    load_adapter(net, tensors)
    return net, tensors


def test_a_core_is_the_pair_of_b_r_and_a() -> None:
    net, tensors = adapted()
    folded = {name: tensors[name.replace("lora_B", "lora_R")] for name in tensors if "lora_B" in name}
    pairs = {name: values @ folded[name] if name in folded else values for name, values in tensors.items() if "lora_R" not in name}
    other = random_network(num_nextn_predict_layers=1, tie_word_embeddings=True)
    attach_adapters(other, replace(CORE, core=False), {})
    load_adapter(other, pairs)
    tokens = random_tokens(1, 2, 20)
    before = net(tokens)
    assert relative_error(before.logits, other(tokens).logits) < 1e-5
    assert relative_error(before.mtp_logits[0], other(tokens).mtp_logits[0]) < 1e-5
    assert all(np.array_equal(values, tensors[name]) for name, values in adapter_state(net).items())
    merge_adapters(net)
    assert relative_error(net(tokens).logits, before.logits) < 1e-5


def test_the_start_is_the_base_and_every_core_moves_from_it() -> None:
    net, layout = random_network(), adapter_layout(random_network().config, CORE, {})
    plain = net(random_tokens(1, 2, 9)).logits
    attach_adapters(net, CORE, {})
    start = initial_adapter(layout, 0)
    load_adapter(net, start)
    assert torch.equal(net(random_tokens(1, 2, 9)).logits, plain)
    cores = {tensor.name for tensor in layout if tensor.kind == "lora_R"}
    set_trainable(net, cores)
    tokens = random_tokens(3, 4, 12)
    train(net, [Batch(tokens, tokens, torch.ones_like(tokens, dtype=torch.bool))], learning_rate=1e-2, weight_decay=0.5)
    moved = {name for name, values in adapter_state(net).items() if not np.array_equal(values, start[name])}
    assert moved == cores == {name.replace("lora_A", "lora_R") for name in start if "lora_A" in name}


def test_the_factors_around_a_core_have_unit_norm_in_the_mean() -> None:
    layout = adapter_layout(random_network().config, replace(CORE, lora_rank=64), {})
    for name, values in initial_adapter(layout, 1).items():
        norms = (values.astype(np.float64) ** 2).sum(1 if "lora_A" in name else 0)
        assert not norms.any() if "lora_R" in name else abs(norms.mean() - 1) < 0.1
    pair = initial_adapter(adapter_layout(random_network().config, AdapterConfig(), {}), 1)
    assert all(np.abs(values).max(initial=0) <= 1 / np.sqrt(values.shape[1]) for name, values in pair.items() if "lora_A" in name)


def test_experts_beside_cores_are_refused() -> None:
    config = random_network().config
    adapter_layout(config, CORE, {1: ()})
    with pytest.raises(AdapterError, match='set trainable.experts to "none"'):
        adapter_layout(config, CORE, {1: (0,)})


def test_a_release_s_own_peft_configuration_names_no_module_with_a_core() -> None:
    _, tensors = adapted()
    pairs = {name: values for name, values in tensors.items() if "lora_R" not in name}
    content = {"name": "triage", "base": {"name": "tiny", "sha256": "0" * 64}, "records": {"prompt": "{a}", "target": "{b}"}}
    plan = parse_plan(content, "plan")
    assert adapter_config(plan, tensors)["target_modules"] == []
    named = adapter_config(plan, pairs)["target_modules"]
    assert "lm_head" in named and "model.embed_tokens" not in named
