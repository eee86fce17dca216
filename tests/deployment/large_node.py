"""A deployed institution's node whose training is one number: what a large vector takes of memory is messages, masks and sums alone."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from client.checkpoints import CheckpointOf
from client.client_app import make_client_app
from client.connection import load_connection
from client.flower_node import serve_tasks
from client.folder_node import FolderNode
from client.institution import open_node
from client.running import runtime_secret
from client.work import LocalUpdate, MetricSums
from model.config import read_config
from model.layout import Adaptation, AdapterConfig
from protocols.bundle import installed_bundle
from protocols.plan import Plan
from protocols.state import Experts, Tensors


@dataclass(frozen=True, slots=True)
class ConstantWork:
    """Moves every element by the same step."""

    adaptation: Adaptation
    base_sha256: str
    max_rank: None = None

    def train(
        self,
        round_number: int,
        tensors: Tensors,
        trained: Collection[str],
        experts: Experts,
        corrections: Tensors | None = None,
        checkpoint: CheckpointOf | None = None,
    ) -> LocalUpdate:
        delta = {name: np.full(tensors[name].shape, 1e-4, np.float32) for name in trained}
        return LocalUpdate(delta, loss_sum=2.0, examples=1, tokens=1)

    def evaluate(self, tensors: Tensors, experts: Experts) -> MetricSums:
        return MetricSums(1.0, 2)


class _OneWork:
    """The work of the last plan, so that nothing is laid out for each message."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._kept: Mapping[str, ConstantWork] = {}

    def __call__(self, plan: Plan) -> ConstantWork:
        if plan.sha256 not in self._kept:
            adaptation = Adaptation(read_config(self._base), AdapterConfig.from_fields(plan.adapter_fields), plan.seed)
            self._kept = {plan.sha256: ConstantWork(adaptation, plan.base.sha256)}
        return self._kept[plan.sha256]


def main(folder: Path, base: Path) -> None:
    """Serves until it is killed."""
    node = FolderNode(folder, open_node(folder, _OneWork(base), lambda: datetime.now(UTC)))  # type: ignore[arg-type]
    app, own = make_client_app(lambda _: node.current()), installed_bundle().sha256
    runtime = f"127.0.0.1:{load_connection(folder).runtime_port}"
    alive = folder / "flower" / "answered"
    serve_tasks(runtime, runtime_secret(folder), app, {own}, lambda: False, alive=alive, log=lambda line: print(line, flush=True))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
