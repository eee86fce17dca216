"""A random network of DeepSeek-V2-Lite's shape (16 billion parameters) trained on one GPU, and transformers' with peft: tokens a second,
peak memory.

python -m benchmarks.model_gpu [--shape v2-lite|small] [--device cuda] [--tokens 4096] [--steps 8]
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, DeepseekV2Config

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
    "LoRA on attention and head": (AdapterConfig(targets=("attention", "lm_head")), 0),
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
        synchronize(device)
        stamps.append(time.perf_counter())

    train(net, [batch] * steps, learning_rate=1e-5, execution=Execution(checkpointing=True), on_step=stamp)
    return [end - start for start, end in pairwise(stamps)]


def their_network(config: ModelConfig, device: torch.device, experts: str) -> Any:
    """transformers' network of that shape with peft's LoRA of the same rank on the same projections, and checkpointing."""
    shape = {name: value for name, value in config.to_dict().items() if name not in ("architectures", "model_type")}
    with torch.device(device):
        net = AutoModelForCausalLM.from_config(DeepseekV2Config(**shape), dtype=torch.bfloat16, experts_implementation=experts)
    net.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    net.enable_input_require_grads()
    ours = next(iter(PLANS.values()))[0]
    projections = ["q_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj", "lm_head"]
    return get_peft_model(net, LoraConfig(r=ours.lora_rank, lora_alpha=ours.lora_alpha, target_modules=projections))


def their_step_times(net: Any, vocabulary: int, tokens: int, steps: int) -> list[float]:
    """Wall-clock seconds of forward, backward and AdamW, as transformers' own trainer does them."""
    ids = torch.randint(0, vocabulary, (1, tokens), device=net.device)
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer, stamps = torch.optim.AdamW(trained, lr=1e-5, fused=True), [time.perf_counter()]
    net.train()
    for _ in range(steps):
        with torch.autocast(net.device.type, torch.bfloat16):
            loss = net(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        synchronize(net.device)
        stamps.append(time.perf_counter())
    return [end - start for start, end in pairwise(stamps)]


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def take_peak(device: torch.device) -> str:
    """What was held at most since the last call; empties the cache and begins anew."""
    if device.type != "cuda":
        return "peak not measured on a CPU"
    most = torch.cuda.max_memory_allocated(device) / 1e9
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return f"peak {most:.1f} GB"


def main() -> None:
    """Prints tokens a second and, on a GPU, its peak memory for each plan, then transformers' for the first and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=["v2-lite", "small"], default="v2-lite")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    device, tokens, steps = torch.device(arguments.device), arguments.tokens, arguments.steps
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("No CUDA device is here: run this where there is one, or give --device cpu --shape small.")
    warnings.simplefilter("ignore")  # of transformers and peft
    config, rates = V2_LITE if arguments.shape == "v2-lite" else SMALL, []
    for name, (adapter, chosen) in PLANS.items():
        net = random_network(config, device)
        experts = dict.fromkeys(expert_layers(config), tuple(range(chosen))) if chosen else {}
        rates.append(tokens / median(step_times(net, adapter, experts, tokens, steps)))
        del net
        print(f"{name}: {rates[-1]:,.0f} tokens/s, {take_peak(device)}", flush=True)
    for implementation in ("grouped_mm", "eager"):
        theirs = their_network(config, device, implementation)
        rate = tokens / median(their_step_times(theirs, config.vocab_size, tokens, steps))
        del theirs
        figures = f"{rate:,.0f} tokens/s, {take_peak(device)}, ours {rates[0] / rate:.2f} times"
        print(f"transformers ({implementation} experts) with peft's LoRA: {figures}", flush=True)


if __name__ == "__main__":
    main()
