"""A random network of DeepSeek-V2-Lite's shape (16 billion parameters) trained on one GPU: tokens a second and peak memory.

python -m benchmarks.model_gpu [--shape v2-lite|small] [--device cuda] [--tokens 4096] [--steps 8]
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from itertools import pairwise

import torch

from model.adapters import attach_adapters, load_adapter, set_trainable
from model.config import ModelConfig
from model.layout import AdapterConfig, Experts, adapter_layout, expert_layers, initial_adapter
from model.training import Batch, Execution, train
from model.transformer import DeepseekV3

V2_LITE = ModelConfig(
    architecture="DeepseekV2ForCausalLM",
    scoring_func="softmax",
    topk_method="greedy",
    norm_topk_prob=False,
    vocab_size=102400,
    hidden_size=2048,
    intermediate_size=10944,
    moe_intermediate_size=1408,
    num_hidden_layers=27,
    first_k_dense_replace=1,
    num_attention_heads=16,
    kv_lora_rank=512,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
    n_routed_experts=64,
    num_experts_per_tok=6,
    n_shared_experts=2,
    max_position_embeddings=4096,
)
SMALL = replace(
    V2_LITE, vocab_size=512, hidden_size=64, intermediate_size=128, moe_intermediate_size=32, num_hidden_layers=3, kv_lora_rank=32
)
PLANS = {
    "LoRA on attention, shared experts and head": (AdapterConfig(targets=("attention", "shared_experts", "dense_mlp", "lm_head")), 0),
    "six of 64 experts a layer in full": (AdapterConfig(targets=(), expert_mode="full"), 6),
}


def random_network(config: ModelConfig, device: torch.device) -> DeepseekV3:
    """bfloat16 weights, made on the device and nowhere else."""
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16)
        net = DeepseekV3(config)
        torch.set_default_dtype(torch.float32)
    net.initialize(torch.Generator(device).manual_seed(0))
    return net


def step_times(net: DeepseekV3, adapter: AdapterConfig, experts: Experts, tokens: int, steps: int) -> list[float]:
    """Wall-clock seconds of each training step on one packed row."""
    attach_adapters(net, adapter, experts)
    layout = adapter_layout(net.config, adapter, experts)
    load_adapter(net, initial_adapter(layout, 0))
    set_trainable(net, [tensor.name for tensor in layout])
    device = net.model.embed_tokens.weight.device
    ids = torch.randint(0, net.config.vocab_size, (1, tokens), device=device)
    batch = Batch(ids, ids, torch.ones_like(ids, dtype=torch.bool))
    stamps = [time.perf_counter()]

    def stamp(*_: object) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        stamps.append(time.perf_counter())

    train(net, [batch] * steps, learning_rate=1e-5, execution=Execution(checkpointing=True), on_step=stamp)
    return [end - start for start, end in pairwise(stamps)]


def main() -> None:
    """Prints tokens a second and, on a GPU, its peak memory for each plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=["v2-lite", "small"], default="v2-lite")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("No CUDA device is here: run this where there is one, or give --device cpu --shape small.")
    config = V2_LITE if arguments.shape == "v2-lite" else SMALL
    for name, (adapter, chosen) in PLANS.items():
        net = random_network(config, device)
        experts = dict.fromkeys(expert_layers(config), tuple(range(chosen))) if chosen else {}
        seconds = sorted(step_times(net, adapter, experts, arguments.tokens, arguments.steps))[arguments.steps // 2]
        peak = f"peak {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB" if device.type == "cuda" else "peak not measured on a CPU"
        print(f"{name}: {arguments.tokens / seconds:,.0f} tokens/s, {peak}", flush=True)
        del net
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)


if __name__ == "__main__":
    main()
