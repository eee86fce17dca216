"""Small configurations that between them use every switch of the network."""

from __future__ import annotations

from typing import Any

import torch

from model.config import V2, ModelConfig, Yarn
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
QUERY_LORA: dict[str, Any] = {"q_lora_rank": 12}
GROUPS: dict[str, Any] = {"n_routed_experts": 16, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 4, "routed_scaling_factor": 2.5}
DEEPSEEK_V2: dict[str, Any] = {"architecture": V2, "scoring_func": "softmax", "topk_method": "greedy", "norm_topk_prob": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "query_lora": QUERY_LORA,
    "attention_bias": {"attention_bias": True, "v_head_dim": 12},
    "query_lora_bias": {**QUERY_LORA, "attention_bias": True},
    "groups": GROUPS,
    "eight_groups": {**GROUPS, "n_group": 8, "topk_group": 4},
    "yarn": {"yarn": Yarn(4.0, 32, mscale=1.0, mscale_all_dim=1.0), "rope_theta": 1000.0},
    "yarn_unequal": {"yarn": Yarn(4.0, 32, mscale=0.7, mscale_all_dim=1.0), "v_head_dim": 12},
    "yarn_no_mscale": {"yarn": Yarn(4.0, 32, beta_fast=8.0, beta_slow=0.5)},
    "yarn_mscale_alone": {"yarn": Yarn(4.0, 32, mscale=0.7)},
    "yarn_all_dim_alone": {"yarn": Yarn(4.0, 32, mscale_all_dim=0.7)},
    "yarn_factor_given": {"yarn": Yarn(4.0, 32, mscale=1.0, mscale_all_dim=0.5, attention_factor=0.8)},
    "shared": {"n_shared_experts": 2, "norm_topk_prob": False, "rms_norm_eps": 1e-5},
    "no_shared": {"n_shared_experts": 0},
    "unnormalised_groups": {**GROUPS, "norm_topk_prob": False},
    "tied": {"tie_word_embeddings": True, "qk_nope_head_dim": 16, "initializer_range": 0.1},
    "half_split": {"rope_interleave": False, "first_k_dense_replace": 0},
    "half_split_yarn": {"rope_interleave": False, **QUERY_LORA, "yarn": Yarn(4.0, 32, mscale=0.7, mscale_all_dim=1.0)},
    "dense": {"first_k_dense_replace": 3},
    "dense_beyond": {"first_k_dense_replace": 7},
    "one_mtp": {"num_nextn_predict_layers": 1},
    "two_mtp": {"num_nextn_predict_layers": 2, "tie_word_embeddings": True, "initializer_range": 0.1},
    "deepseek_v3": {  # the switches of DeepSeek-V3
        **QUERY_LORA,
        **GROUPS,
        "n_group": 8,
        "topk_group": 4,
        "num_nextn_predict_layers": 1,
        "qk_nope_head_dim": 16,
        "v_head_dim": 16,
        "yarn": Yarn(40.0, 4096, mscale=1.0, mscale_all_dim=1.0),
        "max_position_embeddings": 163840,
    },
    "moonlight": {  # the switches and proportions of Moonlight-16B-A3B
        "hidden_size": 64,
        "intermediate_size": 352,
        "moe_intermediate_size": 44,
        "n_routed_experts": 64,
        "num_experts_per_tok": 6,
        "n_shared_experts": 2,
        "routed_scaling_factor": 2.446,
        "rms_norm_eps": 1e-5,
        "rope_theta": 50000.0,
        "qk_nope_head_dim": 16,
        "v_head_dim": 16,
        "initializer_range": 0.1,
    },
    "deepseek_v2_lite": {  # the switches of DeepSeek-V2-Lite
        **DEEPSEEK_V2,
        "n_routed_experts": 64,
        "num_experts_per_tok": 6,
        "n_shared_experts": 2,
        "yarn": Yarn(40.0, 4096, mscale=0.707, mscale_all_dim=0.707),
        "max_position_embeddings": 163840,
    },
    "deepseek_v2": {  # the switches of DeepSeek-V2
        **DEEPSEEK_V2,
        **QUERY_LORA,
        "topk_method": "group_limited_greedy",
        "n_routed_experts": 32,
        "n_group": 8,
        "topk_group": 3,
        "num_experts_per_tok": 6,
        "n_shared_experts": 2,
        "routed_scaling_factor": 16.0,
        "yarn": Yarn(40.0, 32, mscale=1.0, mscale_all_dim=1.0),
    },
    "deepseek_v2_bias": {**DEEPSEEK_V2, "attention_bias": True, "first_k_dense_replace": 0, "tie_word_embeddings": True},
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
