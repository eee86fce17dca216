"""A training on the bundled base that keeps its progress; started as a process of its own, it is there to be killed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

from client.checkpoints import CheckpointOf, Checkpoints
from client.dataset import Dataset, Example
from client.settings import HardwareSettings
from client.trainings import update_from_bytes, update_to_bytes
from client.work import LocalUpdate
from client.workbench import Base, Workbench, load_base
from model.bases import bundled_base
from protocols.files import write_file
from protocols.plan import Plan, parse_plan

EXPERTS = {1: (0, 3), 2: (5,)}


def load_tiny() -> Base:
    return load_base(Path(bundled_base("tiny")), HardwareSettings())


def plan_of(**training: object) -> Plan:
    content = {
        "name": "colours",
        "base": "tiny",
        "rounds": 4,
        "records": {"prompt": "{text}", "target": " {label}"},
        "trainable": {"lora_rank": 4, "experts": "esft-token", "expert_rank": 2},
        "training": {"local_steps": 4, "batch_size": 4, "learning_rate": 1e-2, **training},
        "evaluation": {"metric": "bits_per_byte"},
    }
    return parse_plan(content, "plan")


def open_bench(base: Base, plan: Plan | None = None, records: int = 20) -> Workbench:
    rng = np.random.default_rng(0)
    lengths = rng.integers(6, 14, 20)
    examples = [Example(rng.integers(2, 4096, n).astype(np.int32), np.arange(n) >= 3, 3, "", 0) for n in lengths]
    return Workbench(plan or plan_of(), base, Dataset(tuple(examples[:records]), 0, 0), Dataset((), 0, 0))


def trained(
    bench: Workbench, checkpoint: CheckpointOf | None, round_number: int = 1, shift: float = 0.0, corrected: bool = False
) -> LocalUpdate:
    start = {name: values + np.float32(shift) for name, values in bench.adaptation.initial(EXPERTS).items()}
    corrections = {name: np.full_like(values, 1e-3) for name, values in start.items()} if corrected else None
    return bench.train(round_number, start, list(start), EXPERTS, corrections, checkpoint)


def saved(folder: Path) -> LocalUpdate:
    return update_from_bytes((folder / "update.safetensors").read_bytes())


def main(home: Path) -> None:
    torch.set_num_threads(1)
    checkpoints = Checkpoints(home, 1e-6, time.monotonic)
    update = trained(open_bench(load_tiny(), plan_of(local_steps=40)), checkpoints.of_run("r1"))
    write_file(home / "update.safetensors", update_to_bytes(update))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
