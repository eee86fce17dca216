"""Router biases as tensors of an adapter: added to the base's, never trained by gradients, merged, exported, and taken off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.adapters import adapter_state, attach_adapters, detach_adapters, load_adapter, merge_adapters, set_trainable
from model.checkpoint.loading import load_checkpoint
from model.checkpoint.saving import save_checkpoint
from model.config import ModelConfig
from model.layout import AdapterConfig, AdapterError, adapter_layout, initial_adapter
from model.memory import HeldBase, training_memory
from model.peft.layout import to_peft
from model.training import Batch, train
from model.transformer import DeepseekV3
from tests.model.configurations import DEEPSEEK_V2, SMALL, random_network, random_tokens, relative_error

MOVED = AdapterConfig(lora_rank=2, targets=("attention",), router_bias="summed-counts")
NAMES = [f"model.layers.{layer}.mlp.gate.e_score_correction_bias" for layer in (1, 2, 3)]


def adapted() -> tuple[DeepseekV3, dict[str, np.ndarray]]:
    net = random_network(num_nextn_predict_layers=1)
    layout = adapter_layout(net.config, MOVED, {})
    attach_adapters(net, MOVED, {})
    rng = np.random.default_rng(0)
    start = initial_adapter(layout, 0)
    tensors = start | {name: rng.normal(0, 0.5, 8).astype(np.float32) for name in NAMES}
    load_adapter(net, tensors)
    return net, tensors


def test_the_layout_has_a_bias_for_each_mixture_that_is_adapted() -> None:
    config = ModelConfig(**SMALL, num_nextn_predict_layers=1)
    found = [tensor for tensor in adapter_layout(config, MOVED, {}) if tensor.kind == "router_bias"]
    assert [(tensor.name, tensor.shape, tensor.expert) for tensor in found] == [(name, (8,), None) for name in NAMES]
    alone = AdapterConfig(targets=(), mtp=False, router_bias="summed-counts")
    layout = adapter_layout(config, alone, {})
    assert [tensor.name for tensor in layout] == NAMES[:2]
    assert not any(values.any() for values in initial_adapter(layout, 0).values())


def test_a_base_without_biases_is_refused() -> None:
    with pytest.raises(AdapterError, match='set trainable.router_bias to "frozen"'):
        adapter_layout(ModelConfig(**SMALL | DEEPSEEK_V2), MOVED, {})


def test_the_difference_is_added_read_merged_and_written(tmp_path: Path) -> None:
    net, tensors = adapted()
    plain = random_network(num_nextn_predict_layers=1)
    for layer, name in zip((1, 2, 3), NAMES, strict=True):
        plain.routers()[layer].e_score_correction_bias.add_(torch.from_numpy(tensors[name]))
    tokens = random_tokens(1, 2, 20)
    before = net(tokens)
    assert relative_error(before.logits, plain(tokens).logits) < 1e-6
    assert relative_error(before.mtp_logits[0], plain(tokens).mtp_logits[0]) < 1e-6
    assert all(np.allclose(adapter_state(net)[name], tensors[name], atol=1e-6) for name in NAMES)
    merge_adapters(net)
    save_checkpoint(net, tmp_path / "merged")
    assert relative_error(load_checkpoint(tmp_path / "merged")(tokens).logits, before.logits) < 1e-6


def test_no_gradient_moves_it_and_detaching_gives_the_base_back() -> None:
    net, tensors = adapted()
    set_trainable(net, tensors.keys())
    before, tokens = adapter_state(net), random_tokens(2, 4, 12)
    train(net, [Batch(tokens, tokens, torch.ones_like(tokens, dtype=torch.bool))], learning_rate=1e-2)
    after = adapter_state(net)
    assert all(np.array_equal(before[name], after[name]) for name in NAMES)
    assert any(not np.array_equal(before[name], after[name]) for name in before)
    detach_adapters(net)
    plain = random_network(num_nextn_predict_layers=1).state_dict()
    assert all(torch.equal(tensor, plain[name]) for name, tensor in net.state_dict().items())


def test_a_bias_that_is_stored_in_bfloat16_takes_the_difference_unrounded() -> None:
    net, _ = adapted()
    detach_adapters(net)
    router = net.routers()[1]
    router.e_score_correction_bias = router.e_score_correction_bias.bfloat16()
    attach_adapters(net, MOVED, {})
    load_adapter(net, {name: values + np.float32(1e-4) for name, values in adapter_state(net).items()})
    assert np.allclose(adapter_state(net)[NAMES[0]], 1e-4, rtol=1e-2)  # a step of bfloat16 is ten times as large
    merge_adapters(net)
    assert router.e_score_correction_bias.dtype == torch.float32


def test_peft_cannot_hold_it() -> None:
    net, tensors = adapted()
    with pytest.raises(AdapterError, match=r"mlp.gate.e_score_correction_bias .* peft cannot hold: export the merged model"):
        to_peft(net.config, MOVED, {}, tensors)


def test_it_costs_no_training_memory() -> None:
    config = ModelConfig(**SMALL, num_nextn_predict_layers=1)
    layouts = [adapter_layout(config, AdapterConfig(targets=("lm_head",), router_bias=moved), {}) for moved in ("frozen", "summed-counts")]
    memories = [training_memory(config, HeldBase(0, 4), layout, 2, 8, checkpointing=False) for layout in layouts]
    assert memories[0] == memories[1]
