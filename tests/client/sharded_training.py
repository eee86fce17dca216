"""A process of an institution's training on several devices, started by torchrun: writes the update to a file of its rank."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from client.dataset import Example
from client.training import TrainingSet, train_locally
from client.work import LocalUpdate
from model.adapters import adapter_state, attach_adapters, load_adapter
from model.bases import bundled_base
from model.checkpoint.loading import load_checkpoint
from model.layout import AdapterConfig, adapter_layout, initial_adapter
from model.parallel import Peers, shard_base
from model.training import Execution
from model.transformer import DeepseekV3
from protocols.plan import Training

EXPERTS = {1: (0, 3), 2: (1, 5)}


def examples() -> tuple[Example, ...]:
    rng = np.random.default_rng(0)
    lengths = rng.integers(6, 14, 9)
    return tuple(Example(rng.integers(2, 4096, n).astype(np.int32), np.arange(n) >= 3, 3, "", 0) for n in lengths)


def update(net: DeepseekV3, execution: Execution) -> LocalUpdate:
    adapter = AdapterConfig(lora_rank=4)
    attach_adapters(net, adapter, EXPERTS)
    load_adapter(net, initial_adapter(adapter_layout(net.config, adapter, EXPERTS), 0))
    data, terms = TrainingSet(examples(), 0), Training(batch_size=3)
    return train_locally(net, data, terms, list(adapter_state(net)), first_step=0, steps=4, learning_rate=1e-3, execution=execution)


def main(folder: Path) -> None:
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    net = load_checkpoint(bundled_base("tiny"), torch.float32)
    shard_base(net, mesh)
    found = update(net, Execution(peers=Peers(mesh.get_group())))
    figures = np.array([found.loss_sum, found.examples, found.tokens])
    with (folder / f"{dist.get_rank()}.npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **found.delta, figures=figures)
    dist.barrier()  # a process that leaves early would cut the other's last sum short
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
