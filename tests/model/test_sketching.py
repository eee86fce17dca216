"""Sketches are those of the dense gradient, whatever the network carries, and leave it as it was."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.adapters import adapted_modules, adapter_state, attach_adapters, load_adapter, merge_adapters, set_trainable
from model.layout import AdapterConfig, AdapterError
from model.sketching import left_sketch, right_sketch
from model.training import Batch, Execution
from model.transformer import DeepseekV3
from tests.model.configurations import random_network, random_tokens, relative_error

TARGETS = ("attention", "shared_experts", "dense_mlp", "lm_head", "embeddings")
PAIRS = AdapterConfig(lora_rank=3, targets=TARGETS, embedding_mode="lora", expert_rank=2)
CORES = AdapterConfig(lora_rank=3, targets=TARGETS, embedding_mode="lora", core=True)
SIZE = 5


def adapted(adapter: AdapterConfig, **changes: Any) -> DeepseekV3:
    net = random_network(num_nextn_predict_layers=1, **changes)
    attach_adapters(net, adapter, {} if adapter.core else {1: (0, 5)})
    rng = np.random.default_rng(0)
    load_adapter(net, {name: rng.normal(0, 0.1, v.shape).astype(np.float32) for name, v in adapter_state(net).items()})
    return net


def batches() -> list[Batch]:
    tokens = [random_tokens(seed, rows, 10) for seed, rows in ((1, 4), (2, 3))]
    return [Batch(ids, ids, torch.ones_like(ids, dtype=torch.bool)) for ids in tokens]


def dense_gradients(net: DeepseekV3, mtp_weight: float) -> dict[str, Tensor]:
    """By module: the gradient at the merged weights, whose head and embedding are two."""
    plain = copy.deepcopy(net)
    merge_adapters(plain)
    sums: dict[str, Any] = {}
    for batch in batches():
        plain.zero_grad()
        plain.loss(batch.input_ids, batch.targets, mtp_weight=mtp_weight).total.backward()
        for name in adapted_modules(net):
            weight = plain.get_parameter(f"{name.replace('model.layers.3.', 'mtp.0.')}.weight")
            gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
            sums[name] = sums.get(name, 0) + gradient.double() / 2
    return sums


def drawn(shape: tuple[int, ...], name: str) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(name)), dtype=torch.float64)


@pytest.mark.parametrize("mtp_weight", [0.0, 0.3])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("adapter", [PAIRS, CORES], ids=["pairs", "cores"])
def test_sketches_are_those_of_the_dense_gradient(adapter: AdapterConfig, tied: bool, mtp_weight: float) -> None:
    net = adapted(adapter, tie_word_embeddings=tied)
    dense = dense_gradients(net, mtp_weight)
    omegas = {name: drawn((gradient.shape[1], SIZE), name) for name, gradient in dense.items()}
    bases = {name: drawn((gradient.shape[0], SIZE), name) for name, gradient in dense.items()}
    left, right = left_sketch(net, batches(), omegas, mtp_weight=mtp_weight), right_sketch(net, batches(), bases, mtp_weight=mtp_weight)
    assert {"lm_head", "model.embed_tokens", "model.layers.3.eh_proj"} < left.keys() == right.keys() == dense.keys()
    for name, gradient in dense.items():
        assert gradient.any() == (mtp_weight > 0 or not name.startswith("model.layers.3."))
        assert relative_error(left[name], gradient @ omegas[name]) < 1e-5
        assert relative_error(right[name], bases[name].T @ gradient) < 1e-5


@pytest.mark.parametrize("execution", [Execution(micro_batch=1), Execution(checkpointing=True)], ids=["micro_batches", "checkpointing"])
def test_how_a_step_is_computed_does_not_change_a_sketch(execution: Execution, monkeypatch: pytest.MonkeyPatch) -> None:
    net = adapted(PAIRS)
    omegas = {name: drawn((module.pair.lora_A.shape[1], SIZE), name) for name, module in adapted_modules(net).items()}
    whole = left_sketch(net, batches(), omegas, mtp_weight=0.3)
    monkeypatch.setattr("model.loss.LOGITS", 4 * 96)  # the head's output in chunks, which are computed twice
    parts = left_sketch(net, batches(), omegas, mtp_weight=0.3, execution=execution)
    assert all(relative_error(parts[name], whole[name]) < 1e-5 for name in omegas)


def test_one_module_alone_is_sketched_and_the_network_stays_as_it_was() -> None:
    net = adapted(PAIRS)
    set_trainable(net, ["lm_head.lora_B.weight"])
    before = adapter_state(net)
    omega = {"lm_head": drawn((32, SIZE), "lm_head")}
    found = left_sketch(net, batches(), omega)
    assert relative_error(found["lm_head"], dense_gradients(net, 0.0)["lm_head"] @ omega["lm_head"]) < 1e-5
    assert all(np.array_equal(values, before[name]) for name, values in adapter_state(net).items())
    assert [name for name, parameter in net.named_parameters() if parameter.requires_grad] == ["lm_head.pair.lora_B"]
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())


def test_a_module_that_is_not_adapted_is_refused() -> None:
    with pytest.raises(AdapterError, match="model.norm is no module"):
        left_sketch(adapted(PAIRS), batches(), {"model.norm": torch.zeros(32, 1)})
