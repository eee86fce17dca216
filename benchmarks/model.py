"""The network beside transformers' own, in turns in one process: training, adapters, prefill, decoding, memory.

python benchmarks/model.py [--threads N] [--repeats N] [--only WORD]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.model_networks import CONFIG, forward_flops, our_network, their_networks
from benchmarks.timing import Work, interleaved, resident_peak
from model.adapters import attach_adapters
from model.layout import AdapterConfig, expert_layers
from model.training import Batch, Execution, LossTerms, accumulate_gradients
from model.transformer import DeepseekV3

OURS = "ours"
DECODED = 16  # tokens that are decoded in one turn


def tokens(rows: int, length: int) -> Tensor:
    return torch.randint(0, CONFIG.vocab_size, (rows, length), generator=torch.Generator().manual_seed(1))


def whole_rows(rows: int, length: int) -> Batch:
    """A batch without padding."""
    ids = tokens(rows, length)
    return Batch(ids, ids, torch.ones_like(ids, dtype=torch.bool))


def our_step(net: DeepseekV3, rows: int, length: int, execution: Execution | None = None) -> Work:
    """Forward, backward and AdamW on whatever requires a gradient."""
    batch = whole_rows(rows, length)
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-5, fused=True)

    def work() -> None:
        accumulate_gradients(net, batch, LossTerms(), execution or Execution())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return work


def their_step(net: Any, rows: int, length: int) -> Work:
    ids = tokens(rows, length)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5, fused=True)

    def work() -> None:
        net(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return work


def our_prefill(net: DeepseekV3, length: int) -> Work:
    ids = tokens(1, length)

    def work() -> None:
        net.lm_head(net.hidden(ids, net.new_cache(1, length)).main[:, -1])

    return torch.inference_mode()(work)


def their_prefill(net: Any, length: int) -> Work:
    ids = tokens(1, length)
    return torch.inference_mode()(lambda: net(input_ids=ids, use_cache=True, logits_to_keep=1))


def our_decode(net: DeepseekV3, length: int) -> Work:
    cache, one = net.new_cache(1, length + DECODED), tokens(1, 1)
    with torch.inference_mode():
        net.hidden(tokens(1, length), cache)

    def work() -> None:
        for _ in range(DECODED):
            net.lm_head(net.hidden(one, cache).main[:, -1]).argmax(-1)
        cache.rewind(length)

    return torch.inference_mode()(work)


def their_decode(net: Any, length: int) -> Work:
    one = tokens(1, 1)
    with torch.inference_mode():
        past = net(input_ids=tokens(1, length), use_cache=True, logits_to_keep=1).past_key_values

    def work() -> None:
        for _ in range(DECODED):
            net(input_ids=one, past_key_values=past, use_cache=True).logits[:, -1].argmax(-1)
        past.crop(-DECODED)

    return torch.inference_mode()(work)


def compare(title: str, programs: Mapping[str, Work], repeats: int, unit: float = 1.0, note: str = "") -> None:
    """Prints seconds per `unit` of work, and each other program's time as a multiple of ours."""
    seconds = interleaved(programs, repeats)
    best = min(time for name, time in seconds.items() if name != OURS)
    print(f"\n{title}: {best / seconds[OURS]:.2f}x the best other{note.format(seconds[OURS])}")
    for name, time in sorted(seconds.items(), key=lambda item: item[1]):
        print(f"  {name:55} {1000 * time / unit:9.2f} ms  {time / seconds[OURS]:6.2f}x")


def matrix_peak() -> float:
    """Floating-point operations a second of the machine's own product of two 1024 x 1024 matrices."""
    a = torch.randn(1024, 1024)
    return 2.0 * 1024**3 / interleaved({OURS: lambda: a @ a}, 20)[OURS]


def training(repeats: int, peak: float) -> None:
    net = our_network()
    others = their_networks(net)
    for rows, length in ((4, 256), (1, 1024)):
        programs = {OURS: our_step(net, rows, length)} | {name: their_step(other, rows, length) for name, other in others.items()}
        least = 3 * forward_flops(rows * length, length)
        share = f"; {least / 1e9:.0f} GFLOP, ours at {least / peak:.3f} s / {{:.3f}} s of the matrix peak"
        compare(f"training step, {rows} x {length} tokens", programs, repeats, note=share)


def adapters(repeats: int) -> None:
    """A step that trains every fifth expert in full, beside a step that trains everything."""
    full, partial = our_network(), our_network()
    chosen = tuple(range(0, CONFIG.n_routed_experts, 5))
    attach_adapters(partial, AdapterConfig(targets=(), expert_mode="full"), dict.fromkeys(expert_layers(CONFIG), chosen))
    share = len(chosen) / CONFIG.n_routed_experts
    for rows, length in ((4, 256), (1, 1024)):
        programs = {OURS: our_step(partial, rows, length), "all parameters": our_step(full, rows, length)}
        compare(f"step on {share:.0%} of the experts, {rows} x {length} tokens", programs, repeats)
    frozen = [p for p in partial.parameters() if not p.requires_grad]
    trained = sum(p.numel() for p in partial.parameters() if p.requires_grad)
    print(
        f"  {trained:,} trained, {sum(p.numel() for p in frozen):,} frozen; gradients on frozen: {sum(p.grad is not None for p in frozen)}"
    )


def generation(repeats: int) -> None:
    net = our_network()
    others = their_networks(net)
    ways: list[tuple[str, Callable[..., Work], Callable[..., Work], tuple[int, ...], int]] = [
        ("prefill", our_prefill, their_prefill, (1024, 4096), 1),
        ("decoding, a token, at context", our_decode, their_decode, (128, 1024, 4096), DECODED),
    ]
    for title, ours, theirs, lengths, unit in ways:
        for length in lengths:
            programs = {OURS: ours(net, length)} | {name: theirs(other, length) for name, other in others.items()}
            compare(f"{title} {length}", programs, repeats, unit)
    cache = net.new_cache(1, 1000).nbytes / 1000
    least = (CONFIG.kv_lora_rank + CONFIG.qk_rope_head_dim) * CONFIG.num_hidden_layers * 4
    print(f"\ncache: {cache:.0f} bytes a token; latent and rotary key of every layer: {least}")


def memory() -> None:
    """Peak resident memory of one step, each in a process of its own."""
    weights = sum(p.nbytes for p in our_network().parameters())
    print(f"\npeak memory of a step of 8 x 512 tokens beyond the loaded network; weights and gradients are {weights / 2**20:.0f} MB each")
    for way in ("plain", "checkpointing", "micro-batches of 1"):
        line = [sys.executable, "-m", "benchmarks.model", "--peak", way]
        print(f"  {way:55} {int(subprocess.run(line, check=True, capture_output=True, text=True).stdout):9,} MB")  # noqa: S603


def print_peak(way: str) -> None:
    """MB that a step adds to the process's peak."""
    net = our_network()
    execution = Execution(checkpointing=way == "checkpointing", micro_batch=1 if way.startswith("micro") else None)
    accumulate_gradients(net, whole_rows(1, 8), LossTerms(), execution)  # what PyTorch loads at first use is not the step's
    net.zero_grad(set_to_none=True)
    before = resident_peak()
    accumulate_gradients(net, whole_rows(8, 512), LossTerms(), execution)
    print((resident_peak() - before) >> 20)


def main() -> None:
    """Runs the sections whose name contains `--only`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    if arguments.peak:
        print_peak(arguments.peak)
        return
    peak = matrix_peak()
    print(f"{arguments.threads} threads; matrix peak {peak / 1e9:.0f} GFLOP/s; float32")
    sections: dict[str, Work] = {
        "training": lambda: training(arguments.repeats, peak),
        "adapters": lambda: adapters(arguments.repeats),
        "generation": lambda: generation(arguments.repeats),
        "memory": memory,
    }
    for name, section in sections.items():
        if arguments.only in name:
            section()


if __name__ == "__main__":
    main()
