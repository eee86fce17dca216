"""Small configurations that between them use every switch of the network."""

from __future__ import annotations

from typing import Any

import torch

from model.config import ModelConfig, Yarn
from model.transformer import DeepseekV3

SMALL: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "max_position_embeddings": 256,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "query_lora": {"q_lora_rank": 12, "attention_bias": True},
    "groups": {"n_routed_experts": 16, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 4, "routed_scaling_factor": 2.5},
    "yarn": {"yarn": Yarn(4.0, 32, mscale=1.0, mscale_all_dim=1.0), "rope_theta": 1000.0},
    "yarn_unequal": {"yarn": Yarn(4.0, 32, mscale=0.7, mscale_all_dim=1.0), "v_head_dim": 12},
    "shared": {"n_shared_experts": 2, "norm_topk_prob": False, "rms_norm_eps": 1e-5},
    "tied": {"tie_word_embeddings": True, "qk_nope_head_dim": 16, "initializer_range": 0.1},
    "half_split": {"rope_interleave": False, "first_k_dense_replace": 0},
    "dense": {"first_k_dense_replace": 3},
}


def random_network(seed: int = 0, **changes: Any) -> DeepseekV3:
    """A float32 network with weights large enough that routing and attention differ between tokens."""
    net = DeepseekV3(ModelConfig(**{**SMALL, "initializer_range": 0.15, **changes}))
    generator = torch.Generator().manual_seed(seed)
    net.initialize(generator)
    for name, buffer in net.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.3 - 0.2)
    for name, parameter in net.named_parameters():
        if name.endswith(("norm.weight", "_proj.bias", "_mqa.bias")):
            with torch.no_grad():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return net


def random_tokens(seed: int, *shape: int) -> torch.Tensor:
    return torch.randint(2, SMALL["vocab_size"], shape, generator=torch.Generator().manual_seed(seed))


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    difference, size = (ours - theirs).detach().norm(), theirs.detach().norm()
    return float(difference / (size + 1e-12))
