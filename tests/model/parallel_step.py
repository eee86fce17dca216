"""A process of a sharded training, started by torchrun: writes what it trained to a file of its rank."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from model.adapters import adapter_state, attach_adapters, load_adapter, set_trainable
from model.checkpoint.loading import load_checkpoint
from model.layout import AdapterConfig, initial_adapter
from model.parallel import Peers, shard_base
from model.training import Batch, Execution, LossTerms, TrainingResult, train
from model.transformer import DeepseekV3
from tests.model.configurations import random_tokens

EXPERTS = {1: (0, 3), 2: (1, 5, 6), 3: (2,)}
PARTS = ("attention", "shared_experts", "dense_mlp", "lm_head", "embeddings", "norms")


def batches() -> list[Batch]:
    """The second has an odd number of rows, the last fewer rows than there are processes."""
    found = []
    for seed, rows in enumerate((4, 5, 1)):
        tokens = random_tokens(seed, rows, 12)
        valid = torch.ones_like(tokens, dtype=torch.bool)
        valid[-1, 8:] = False
        found.append(Batch(tokens, tokens.masked_fill(~valid, -100), valid))
    return found


def trained(net: DeepseekV3, mode: str, execution: Execution) -> tuple[dict[str, np.ndarray], TrainingResult]:
    config = AdapterConfig(lora_rank=2, targets=PARTS, expert_mode="full" if mode == "full" else "lora", expert_rank=2)
    attach_adapters(net, config, EXPERTS)
    load_adapter(net, initial_adapter(net.attached.layout, 0))  # type: ignore[attr-defined]
    set_trainable(net, adapter_state(net).keys())
    result = train(net, batches(), learning_rate=1e-3, terms=LossTerms(balance_weight=0.01), execution=execution)
    return adapter_state(net), result


def main(folder: Path, mode: str) -> None:
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    net = load_checkpoint(folder / "base")
    shard_base(net, mesh)
    whole = sum(p.numel() for p in load_checkpoint(folder / "base").parameters())
    held = sum(getattr(p, "_local_tensor", p).numel() for p in net.parameters())
    state, result = trained(net, mode, Execution(peers=Peers(mesh.get_group()), checkpointing=mode == "full"))
    state |= {f"counts.{layer}": count.numpy() for layer, count in result.expert_counts.items()}
    facts = np.array([result.loss_sum, result.examples, result.target_tokens, held / whole])
    with (folder / f"{dist.get_rank()}.npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **state, facts=facts)
    dist.barrier()  # a process that leaves early would cut the other's last sum short
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
