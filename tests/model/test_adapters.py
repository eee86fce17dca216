"""Adapters compute what their definition says, train only what they name, and merge without a change of output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.adapters import (
    adapter_state,
    attach_adapters,
    detach_adapters,
    load_adapter,
    merge_adapters,
    parameters_of,
    set_trainable,
)
from model.checkpoint.loading import load_checkpoint
from model.checkpoint.saving import save_checkpoint
from model.layout import AdapterConfig, AdapterError, adapter_layout
from model.moe import Experts
from model.training import Batch, train
from model.transformer import DeepseekV3
from tests.model.configurations import random_network, random_tokens, relative_error

ALL_PARTS = ("attention", "shared_experts", "dense_mlp", "lm_head", "embeddings", "norms")
EXPERTS = {1: (0, 5), 2: (3,), 3: (1, 2)}


def adapted(mode: Any = "lora", **changes: Any) -> tuple[DeepseekV3, dict[str, np.ndarray]]:
    """A network with MTP and random adapter tensors everywhere."""
    net = random_network(num_nextn_predict_layers=1, **changes)
    config = AdapterConfig(lora_rank=3, lora_alpha=6, targets=ALL_PARTS, expert_mode=mode, expert_rank=2)
    attach_adapters(net, config, EXPERTS)
    rng = np.random.default_rng(0)
    tensors = {t.name: rng.normal(0, 0.1, t.shape).astype(np.float32) for t in adapter_layout(net.config, config, EXPERTS)}
    load_adapter(net, tensors)
    return net, tensors


def dense_weight(tensors: dict[str, np.ndarray], name: str, scaling: float) -> torch.Tensor:
    """The difference that an adapter makes to the weight `name`, written out."""
    if f"{name}.weight" in tensors:
        return torch.from_numpy(tensors[f"{name}.weight"])
    return torch.from_numpy(tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]) * scaling


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_the_output_is_that_of_a_network_with_the_differences_added(mode: str) -> None:
    net, tensors = adapted(mode)
    plain = random_network(num_nextn_predict_layers=1)
    modules = {name.split(".lora_")[0].removesuffix(".weight") for name in tensors}
    with torch.no_grad():
        for name in sorted(modules):
            path = name.replace("model.layers.3.", "mtp.0.")
            if ".experts." not in name:
                plain.get_parameter(f"{path}.weight").add_(dense_weight(tensors, name, 2.0))
                continue
            prefix, expert, projection = path.rsplit(".", 2)
            stacked = plain.get_submodule(prefix)
            assert isinstance(stacked, Experts)
            delta, width = dense_weight(tensors, name, 3.0), plain.config.moe_intermediate_size
            if projection == "down_proj":
                stacked.down_proj[int(expert)] += delta
            else:
                rows = slice(0, width) if projection == "gate_proj" else slice(width, None)
                stacked.gate_up_proj[int(expert), rows] += delta
    tokens = random_tokens(1, 2, 20)
    assert relative_error(net(tokens).logits, plain(tokens).logits) < 1e-5
    assert relative_error(net(tokens).mtp_logits[0], plain(tokens).mtp_logits[0]) < 1e-5
    assert torch.equal(net.generate(tokens, 5), plain.generate(tokens, 5))


@pytest.mark.parametrize("tied", [False, True])
def test_merging_changes_no_output_and_leaves_a_plain_checkpoint(tied: bool, tmp_path: Path) -> None:
    net, _ = adapted(tie_word_embeddings=tied)
    tokens = random_tokens(2, 2, 20)
    before = net(tokens).logits
    merge_adapters(net)
    assert relative_error(net(tokens).logits, before) < 1e-5
    save_checkpoint(net, tmp_path / "merged")
    assert relative_error(load_checkpoint(tmp_path / "merged")(tokens).logits, before) < 1e-5


@pytest.mark.parametrize("targets", [("lm_head",), ("lm_head", "embeddings"), ALL_PARTS])
def test_a_merged_bfloat16_network_is_bfloat16(targets: tuple[str, ...]) -> None:
    net = random_network(tie_word_embeddings=True).bfloat16()
    attach_adapters(net, AdapterConfig(targets=targets), {1: (0,)})
    merge_adapters(net)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.bfloat16}
    assert net.lm_head.weight is not net.model.embed_tokens.weight


def test_a_gradient_does_not_outlive_the_adapter() -> None:
    net = random_network().bfloat16()
    attach_adapters(net, AdapterConfig(targets=("embeddings",)), {})
    set_trainable(net, ["model.embed_tokens.weight"])
    net.loss(random_tokens(1, 2, 6), random_tokens(1, 2, 6)).total.backward()
    detach_adapters(net)
    net.loss(random_tokens(1, 2, 6), random_tokens(1, 2, 6)).total.backward()
    assert net.model.embed_tokens.weight.grad is not None and net.model.embed_tokens.weight.grad.dtype == torch.bfloat16


def test_detaching_gives_the_base_back_bit_for_bit() -> None:
    net, _ = adapted()
    detach_adapters(net)
    plain = random_network(num_nextn_predict_layers=1).state_dict()
    assert all(torch.equal(tensor, plain[name]) for name, tensor in net.state_dict().items())


def test_what_is_read_is_what_was_loaded() -> None:
    net, tensors = adapted()
    state = adapter_state(net)
    assert state.keys() == tensors.keys()
    assert all(np.allclose(state[name], values, atol=1e-6) for name, values in tensors.items())


def batch(seed: int) -> Batch:
    tokens = random_tokens(seed, 4, 12)
    return Batch(tokens, tokens, torch.ones_like(tokens, dtype=torch.bool))


def test_only_the_named_tensors_move() -> None:
    net, _ = adapted()
    net.routers()[1].e_score_correction_bias[5] = 100.0
    names = {"lm_head.lora_B.weight", "model.embed_tokens.weight", "model.layers.1.mlp.experts.5.up_proj.lora_A.weight"}
    set_trainable(net, names)
    before = adapter_state(net)
    result = train(net, [batch(3), batch(4)], learning_rate=1e-2)
    after = adapter_state(net)
    assert {name for name in before if not np.array_equal(before[name], after[name])} == names
    assert (result.examples, result.target_tokens) == (8, 2 * 4 * 11)
    assert int(result.expert_counts[1].sum()) == 2 * 4 * 12 * 2


def test_an_expert_without_tokens_is_neither_moved_nor_decayed() -> None:
    net, _ = adapted("full")
    bias = net.routers()[1].e_score_correction_bias
    bias[0], bias[5] = 100.0, -100.0
    names = [f"model.layers.1.mlp.experts.{expert}.up_proj.weight" for expert in (0, 5)]
    set_trainable(net, names)
    before = adapter_state(net)
    train(net, [batch(5)], learning_rate=1e-2, weight_decay=0.5)
    after = adapter_state(net)
    assert not np.array_equal(before[names[0]], after[names[0]])
    assert np.array_equal(before[names[1]], after[names[1]])


def test_a_batch_that_reaches_no_trained_expert_is_no_error() -> None:
    net = random_network()
    attach_adapters(net, AdapterConfig(targets=()), {1: (0,)})
    net.routers()[1].e_score_correction_bias[0] = -100.0
    set_trainable(net, adapter_state(net).keys())
    result = train(net, [batch(6), batch(7)], learning_rate=1e-2)
    assert result.target_tokens == 2 * 4 * 11
    assert not any(values.any() for values in adapter_state(net).values())


def test_parameters_are_found_by_the_names_of_their_tensors() -> None:
    net, tensors = adapted()
    found = parameters_of(net, tensors.keys())
    assert {name: tuple(parameter.shape) for name, parameter in found.items()} == {name: v.shape for name, v in tensors.items()}
    assert found["model.embed_tokens.weight"] is net.model.embed_tokens.weight
    set_trainable(net, tensors.keys(), held_rank=1)
    assert parameters_of(net, ["lm_head.lora_A.weight"])["lm_head.lora_A.weight"].shape == (1, 32)
    with pytest.raises(AdapterError, match="lm_head is no parameter"):
        parameters_of(net, ["lm_head"])


def test_a_second_adapter_is_refused() -> None:
    net, _ = adapted()
    with pytest.raises(AdapterError, match="already"):
        attach_adapters(net, AdapterConfig(), {})


def test_tensors_of_another_adapter_are_refused_by_name() -> None:
    net, tensors = adapted()
    del tensors["lm_head.lora_A.weight"]
    with pytest.raises(AdapterError, match=r"lm_head\.lora_A\.weight is missing"):
        load_adapter(net, tensors)
