"""The server's side: stock FedAvg, and a line with the time whenever it has averaged a round."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


class TimedFedAvg(FedAvg):
    """Writes down when each round was averaged."""

    times = Path()

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Flower's own."""
        averaged: tuple[ArrayRecord | None, MetricRecord | None] = super().aggregate_train(server_round, replies)
        with self.times.open("a") as file:
            file.write(f"{time.time()}\n")
        return averaged


def main(grid: Grid, context: Context) -> None:
    """Averages for as many rounds as the configuration says, without evaluation."""
    config = context.run_config
    nodes = int(config["nodes"])
    strategy = TimedFedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes)
    strategy.times = Path(str(config["times"]))
    start = ArrayRecord([np.zeros(int(config["elements"]), np.float32)])
    strategy.start(grid, start, num_rounds=int(config["rounds"]))


app.main()(main)
