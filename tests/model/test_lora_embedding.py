"""LoRA on the embedding's lookup: the dense definition, a tied head that stays as it is, and multi-token prediction that sees it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.adapters import adapter_state, attach_adapters, detach_adapters, load_adapter, merge_adapters, set_trainable
from model.checkpoint.loading import load_checkpoint
from model.checkpoint.saving import save_checkpoint
from model.layout import AdapterConfig, adapter_layout, initial_adapter
from model.training import Batch, train
from model.transformer import DeepseekV3
from tests.model.configurations import random_network, random_tokens, relative_error

EMBEDDING = AdapterConfig(lora_rank=3, lora_alpha=6, targets=("embeddings",), embedding_mode="lora")
A, B = "model.embed_tokens.lora_A.weight", "model.embed_tokens.lora_B.weight"


def adapted(adapter: AdapterConfig = EMBEDDING, tied: bool = True) -> tuple[DeepseekV3, dict[str, np.ndarray]]:
    net = random_network(num_nextn_predict_layers=1, tie_word_embeddings=tied)
    attach_adapters(net, adapter, {})
    rng = np.random.default_rng(0)
    tensors = {t.name: rng.normal(0, 0.3, t.shape).astype(np.float32) for t in adapter_layout(net.config, adapter, {})}
    load_adapter(net, tensors)
    return net, tensors


def test_the_pair_is_oriented_as_every_other_and_starts_at_the_base() -> None:
    net = random_network()
    layout = adapter_layout(net.config, EMBEDDING, {})
    assert {tensor.name: (tensor.shape, tensor.kind) for tensor in layout} == {A: ((3, 32), "lora_A"), B: ((96, 3), "lora_B")}
    plain = net(random_tokens(1, 2, 9)).logits
    attach_adapters(net, EMBEDDING, {})
    start = initial_adapter(layout, 0)
    load_adapter(net, start)
    assert start[A].any() and not start[B].any() and torch.equal(net(random_tokens(1, 2, 9)).logits, plain)


@pytest.mark.parametrize("tied", [False, True])
def test_lookups_are_those_of_the_dense_sum_and_the_head_stays(tied: bool) -> None:
    net, tensors = adapted(tied=tied)
    plain = random_network(num_nextn_predict_layers=1, tie_word_embeddings=tied)
    plain.lm_head.weight = torch.nn.Parameter(plain.lm_head.weight.detach().clone())
    with torch.no_grad():
        plain.model.embed_tokens.weight.add_(torch.from_numpy(tensors[B] @ tensors[A]) * 2.0)
    tokens = random_tokens(1, 2, 20)
    assert relative_error(net(tokens).logits, plain(tokens).logits) < 1e-5
    assert relative_error(net(tokens).mtp_logits[0], plain(tokens).mtp_logits[0]) < 1e-5
    assert torch.equal(net.generate(tokens, 5, speculative=True), plain.generate(tokens, 5))


@pytest.mark.parametrize("targets", [("embeddings",), ("embeddings", "lm_head", "attention")])
@pytest.mark.parametrize("tied", [False, True])
def test_merging_unties_the_head_and_changes_no_output(tied: bool, targets: tuple[str, ...], tmp_path: Path) -> None:
    net, _ = adapted(AdapterConfig(targets=targets, embedding_mode="lora"), tied)
    tokens = random_tokens(2, 2, 20)
    before = net(tokens)
    merge_adapters(net)
    save_checkpoint(net, tmp_path / "merged")
    assert not net.config.tie_word_embeddings
    for merged in (net(tokens), load_checkpoint(tmp_path / "merged")(tokens)):
        assert relative_error(merged.logits, before.logits) < 1e-5
        assert relative_error(merged.mtp_logits[0], before.mtp_logits[0]) < 1e-5


def test_detaching_gives_the_tied_base_back_bit_for_bit() -> None:
    net, _ = adapted()
    detach_adapters(net)
    plain = random_network(num_nextn_predict_layers=1, tie_word_embeddings=True).state_dict()
    assert all(torch.equal(tensor, plain[name]) for name, tensor in net.state_dict().items())
    assert net.lm_head.weight is net.model.embed_tokens.weight


def test_a_bfloat16_base_is_summed_in_float32_and_merged_in_its_own_type() -> None:
    net = random_network().bfloat16()
    attach_adapters(net, EMBEDDING, {})
    load_adapter(net, initial_adapter(adapter_layout(net.config, EMBEDDING, {}), 0))
    assert net.model.embed_tokens(random_tokens(1, 2, 3)).dtype == torch.float32
    merge_adapters(net)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.bfloat16}


def test_rows_of_tokens_that_are_not_read_do_not_move() -> None:
    net, _ = adapted()
    set_trainable(net, {A, B})
    before = adapter_state(net)
    tokens = random_tokens(3, 2, 8)
    train(net, [Batch(tokens, tokens, torch.ones_like(tokens, dtype=torch.bool))], learning_rate=1e-2)
    after = adapter_state(net)
    moved = set(np.flatnonzero((after[B] != before[B]).any(1)).tolist())
    assert set(tokens[:, :-1].flatten().tolist()) <= moved <= set(tokens.flatten().tolist())  # the last ones are MTP's alone
    assert (after[A] != before[A]).any()
