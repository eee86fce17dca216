"""The stated memory of training against what a network really holds and keeps: exact, and for activations within a quarter."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.adapters import attach_adapters, set_trainable
from model.checkpoint.inventory import held_base
from model.checkpoint.loading import load_checkpoint
from model.checkpoint.saving import save_checkpoint
from model.fp8 import FP8
from model.layout import AdapterConfig, AdapterTensor, Experts, adapter_layout, expert_layers
from model.memory import HeldBase, training_memory
from model.training import BETAS
from model.transformer import DeepseekV3
from tests.model.checkpoint.stored import to_fp8
from tests.model.configurations import random_network, random_tokens

STEPS = Path(__file__).with_name("training_peak.py")
ROWS, TOKENS = 4, 48
FACTOR = 1.25
SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 320,
    "moe_intermediate_size": 48,
    "num_attention_heads": 8,
    "kv_lora_rank": 32,
    "q_lora_rank": 48,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
}
SHAPES: dict[str, dict[str, Any]] = {
    "mixed": {},
    "dense": {"first_k_dense_replace": 3, "q_lora_rank": None},
    "mtp": {"num_nextn_predict_layers": 1, "n_shared_experts": 2},
    "wide_values": {"v_head_dim": 40, "num_experts_per_tok": 4},
}
ADAPTERS: dict[str, tuple[AdapterConfig, int]] = {
    "all_lora": (AdapterConfig(), 3),
    "attention": (AdapterConfig(targets=("attention",)), 0),
    "every_expert": (AdapterConfig(targets=("lm_head",)), 8),
    "embedding": (AdapterConfig(targets=("attention", "embeddings"), rank_pattern={"embed_tokens": 256}, embedding_mode="lora"), 0),
    "core": (AdapterConfig(lora_rank=64, core=True), 0),
    "full": (AdapterConfig(targets=("attention", "embeddings", "norms"), expert_mode="full"), 2),
}


def _adapted(adapter: str, dtype: torch.dtype, **changes: Any) -> tuple[DeepseekV3, tuple[AdapterTensor, ...]]:
    net = random_network(**SIZES | changes).to(dtype)
    config, count = ADAPTERS[adapter]
    absent = {"shared_experts": not expert_layers(net.config), "dense_mlp": not net.config.first_k_dense_replace}
    config = replace(config, targets=tuple(target for target in config.targets if not absent.get(target)))
    experts: Experts = {layer: tuple(range(count)) for layer in expert_layers(net.config)} if count else {}
    attach_adapters(net, config, experts)
    layout = adapter_layout(net.config, config, experts)
    set_trainable(net, {tensor.name for tensor in layout if tensor.kind == "lora_R" or not config.core})
    return net, layout


def _loss_and_kept(net: DeepseekV3, checkpointing: bool) -> tuple[Tensor, int]:
    """The loss, and bytes of distinct storages kept for the backward pass, without weights and what the logits leave."""
    held = {tensor.untyped_storage().data_ptr() for tensor in [*net.parameters(), *net.buffers()]}
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage  # held, so that its address is not given to another
        return tensor

    tokens = random_tokens(0, ROWS, TOKENS)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = net.loss(tokens, tokens, checkpointing=checkpointing).total
    softmax = sum(4 * ROWS * (TOKENS - ahead) * net.config.vocab_size for ahead in range(1, 2 + len(net.mtp)))
    return loss, sum(storage.nbytes() for storage in kept.values()) - softmax


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_activations(adapter: str, shape: str, dtype: torch.dtype) -> None:
    net, layout = _adapted(adapter, dtype, **SHAPES[shape])
    stated = training_memory(net.config, HeldBase(0, dtype.itemsize), layout, ROWS, TOKENS, checkpointing=False).activations
    _, kept = _loss_and_kept(net, checkpointing=False)
    assert kept / FACTOR < stated < kept * FACTOR


@pytest.mark.parametrize("dense", [0, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_activations_with_gradient_checkpointing(dense: int, dtype: torch.dtype) -> None:
    """What is kept throughout is measured, and the one block that is recomputed as what a block more keeps."""
    net, layout = _adapted("all_lora", dtype, first_k_dense_replace=dense)
    deeper, _ = _adapted("all_lora", dtype, first_k_dense_replace=dense, num_hidden_layers=4)
    stated = training_memory(net.config, HeldBase(0, dtype.itemsize), layout, ROWS, TOKENS, checkpointing=True).activations
    block = _loss_and_kept(deeper, checkpointing=False)[1] - _loss_and_kept(net, checkpointing=False)[1]
    kept = _loss_and_kept(net, checkpointing=True)[1] + block
    assert kept / FACTOR < stated < kept * FACTOR


@pytest.mark.parametrize("adapter", ["all_lora", "embedding", "full", "core"])
def test_trained_tensors_gradients_and_moments_are_exact(adapter: str) -> None:
    # An expert without tokens has no gradient in a step: here every token goes to all.
    net, layout = _adapted(adapter, torch.bfloat16, num_nextn_predict_layers=1, num_experts_per_tok=8)
    stated = training_memory(net.config, HeldBase(0, 2), layout, ROWS, TOKENS, checkpointing=False)
    _loss_and_kept(net, checkpointing=False)[0].backward()
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, betas=BETAS)
    optimizer.step()
    assert stated.trained == sum(parameter.nbytes for parameter in trained) or adapter == "core"
    assert stated.trained == sum(math.prod(tensor.shape) * 4 for tensor in layout)
    assert stated.gradients == sum(parameter.grad.nbytes for parameter in trained if parameter.grad is not None)
    assert stated.moments == sum(values.nbytes for state in optimizer.state.values() for values in state.values() if values.dim())


@pytest.mark.parametrize("fp8", [False, True])
def test_the_base_is_exact_in_its_stored_types(tmp_path: Path, fp8: bool) -> None:
    save_checkpoint(random_network(**SIZES, num_nextn_predict_layers=1).to(torch.bfloat16), tmp_path / "base")
    if fp8:
        to_fp8(tmp_path / "base", lambda name: name.endswith("_proj.weight"))
    net, base = load_checkpoint(tmp_path / "base"), held_base(tmp_path / "base")
    assert base.size == sum(tensor.nbytes for tensor in net.state_dict().values())
    assert base.activation == net.dtype.itemsize
    # One expert's weight is multiplied at a time, not the stack.
    largest = max((p[0] if p.dim() == 3 else p).numel() for p in net.parameters() if p.dtype == FP8) if fp8 else 0
    assert base.largest_fp8 == largest


def test_logits_are_those_of_one_chunk() -> None:
    net, layout = _adapted("attention", torch.bfloat16)
    parts = [training_memory(net.config, HeldBase(0, 2), layout, 64, tokens, False).logits for tokens in (16, 32, 2**20)]
    assert parts[0] * 2 == parts[1] < parts[2] == 2**25 * (3 * 4 + 2)


def test_the_total_is_the_sum_of_the_parts() -> None:
    net, layout = _adapted("all_lora", torch.float32)
    memory = training_memory(net.config, HeldBase(10_000, 4, 100), layout, ROWS, TOKENS, checkpointing=True)
    assert memory.total == sum(asdict(memory).values())
    assert (memory.base, memory.dequantised) == (10_000, 800)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("checkpointing", ["", "checkpointing"])
def test_the_total_is_what_a_process_takes(checkpointing: str) -> None:
    done = subprocess.run([sys.executable, str(STEPS), checkpointing], check=True, capture_output=True, text=True)
    taken, stated = json.loads(done.stdout)
    assert taken / FACTOR < stated < taken * FACTOR
