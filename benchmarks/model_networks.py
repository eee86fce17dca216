"""The 30M-parameter network of the benchmark, and transformers' network with the same weights in each of its settings."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import DeepseekV3ForCausalLM

from model.checkpoint.saving import save_checkpoint
from model.config import ModelConfig
from model.transformer import DeepseekV3

CONFIG = ModelConfig(
    vocab_size=4096,
    hidden_size=256,
    intermediate_size=704,
    moe_intermediate_size=176,
    num_hidden_layers=8,
    first_k_dense_replace=1,
    num_attention_heads=8,
    q_lora_rank=96,
    kv_lora_rank=64,
    qk_nope_head_dim=32,
    qk_rope_head_dim=16,
    v_head_dim=32,
    n_routed_experts=28,
    num_experts_per_tok=4,
    n_shared_experts=1,
    max_position_embeddings=8192,
)
SETTINGS = [("grouped_mm", "sdpa"), ("grouped_mm", "eager"), ("eager", "sdpa")]  # of experts and attention


def our_network() -> DeepseekV3:
    """Random weights; float32."""
    net = DeepseekV3(CONFIG)
    net.initialize(torch.Generator().manual_seed(0))
    return net


def their_networks(net: DeepseekV3) -> dict[str, Any]:
    """transformers' reading of the same weights, by setting."""
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(net, Path(folder) / "checkpoint")
        return {
            f"transformers ({experts} experts, {attention} attention)": DeepseekV3ForCausalLM.from_pretrained(
                Path(folder) / "checkpoint", dtype=torch.float32, experts_implementation=experts, attn_implementation=attention
            )
            for experts, attention in SETTINGS
        }


def forward_flops(tokens: int, length: int) -> float:
    """Floating-point operations of a forward over `tokens` in sequences of `length`, counted from the shapes; attention is causal."""
    c = CONFIG
    queries = c.num_attention_heads * c.qk_head_dim
    projections = (
        c.hidden_size * (c.q_lora_rank or 0) + (c.q_lora_rank or 0) * queries + c.hidden_size * (c.kv_lora_rank + c.qk_rope_head_dim)
    )
    projections += c.num_attention_heads * (c.kv_lora_rank * (c.qk_nope_head_dim + c.v_head_dim) + c.v_head_dim * c.hidden_size)
    scores = c.num_attention_heads * (c.qk_head_dim + c.v_head_dim) * length / 2
    expert = 3 * c.hidden_size * c.moe_intermediate_size
    mixture = (c.num_experts_per_tok + c.n_shared_experts) * expert + c.hidden_size * c.n_routed_experts
    dense = 3 * c.hidden_size * c.intermediate_size
    moe_layers = c.num_hidden_layers - c.first_k_dense_replace
    layers = c.num_hidden_layers * (projections + scores) + c.first_k_dense_replace * dense + moe_layers * mixture
    return 2.0 * tokens * (layers + c.hidden_size * c.vocab_size)
