"""A process that trains two steps in float32 and prints the bytes that this added to its peak, and those that `model.memory` states."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import torch

from model.adapters import attach_adapters, set_trainable
from model.layout import AdapterConfig, adapter_layout, expert_layers
from model.memory import HeldBase, Memory, training_memory
from model.training import Batch, Execution, train
from tests.model.configurations import random_network

SIZES = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "moe_intermediate_size": 256,
    "num_attention_heads": 8,
    "kv_lora_rank": 128,
    "q_lora_rank": 192,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
    "vocab_size": 8000,
    "num_hidden_layers": 6,
}


def peak() -> int:
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 0


def steps(rows: int, tokens: int, checkpointing: bool) -> tuple[int, Memory]:
    net, adapter = random_network(**SIZES), AdapterConfig()
    experts = dict.fromkeys(expert_layers(net.config), (0, 1, 2))
    attach_adapters(net, adapter, experts)
    layout = adapter_layout(net.config, adapter, experts)
    set_trainable(net, {tensor.name for tensor in layout})
    before, ids = peak(), torch.randint(0, 8000, (rows, tokens))
    batch = Batch(ids, ids, torch.ones_like(ids, dtype=torch.bool))
    train(net, [batch, batch], learning_rate=1e-3, execution=Execution(checkpointing=checkpointing))
    return peak() - before, training_memory(net.config, HeldBase(0, 4), layout, rows, tokens, checkpointing)


if __name__ == "__main__":
    steps(1, 8, False)  # what PyTorch loads at first use is not training's
    taken, stated = steps(8, 512, bool(sys.argv[1]))
    print(json.dumps([taken, stated.total - stated.trained]))
