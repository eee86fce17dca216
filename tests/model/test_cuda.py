"""What runs on a CPU runs on a GPU, and gives the same; skipped where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.adapters import adapter_state, attach_adapters, load_adapter, set_trainable
from model.checkpoint.loading import load_checkpoint
from model.checkpoint.saving import save_checkpoint
from model.layout import AdapterConfig, initial_adapter
from model.training import Batch, Execution, LossTerms, train
from model.transformer import DeepseekV3
from tests.model.configurations import VARIANTS, random_network, random_tokens, relative_error

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_and_generated_tokens(variant: str, tmp_path: Path) -> None:
    net, tokens = random_network(**VARIANTS[variant]), random_tokens(1, 2, 20)
    save_checkpoint(net, tmp_path / "net")
    there = load_checkpoint(tmp_path / "net", device="cuda")
    assert relative_error(there(tokens.cuda()).logits.cpu(), net(tokens).logits) < 1e-3
    assert torch.equal(there.generate(tokens.cuda(), 4).cpu()[:, :21], net.generate(tokens, 4)[:, :21])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", ["lora", "full"])
def test_training_moves_the_adapter_as_on_a_cpu(mode: Any, dtype: torch.dtype) -> None:
    def update(device: str) -> np.ndarray:
        net = random_network(num_nextn_predict_layers=1).to(device, dtype)
        attach_adapters(net, AdapterConfig(expert_mode=mode), {1: (0, 1), 3: (2,)})
        load_adapter(net, initial_adapter(net.attached.layout, 0))  # type: ignore[attr-defined]
        set_trainable(net, adapter_state(net).keys())
        before = adapter_state(net)
        tokens = random_tokens(2, 4, 16).to(device)
        batch = Batch(tokens, tokens, torch.ones_like(tokens, dtype=torch.bool))
        execution = Execution(checkpointing=True, micro_batch=2)
        train(net, [batch] * 3, learning_rate=1e-3, terms=LossTerms(balance_weight=0.01), execution=execution)
        after = adapter_state(net)
        return np.concatenate([(after[name] - before[name]).ravel() for name in sorted(after)])

    here, there = update("cpu"), update("cuda")
    assert here @ there / (np.linalg.norm(here) * np.linalg.norm(there)) > (0.99 if dtype == torch.float32 else 0.9)


def test_speculation_is_token_identical() -> None:
    net: DeepseekV3 = random_network(num_nextn_predict_layers=1).cuda()
    tokens = random_tokens(3, 3, 10).cuda()
    assert torch.equal(net.generate(tokens, 12, speculative=True), net.generate(tokens, 12))
