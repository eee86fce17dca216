"""Flower's SecAgg+ in one process: its own mod and workflow, over a grid that calls its client apps directly."""

from __future__ import annotations

import copy
import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client import Client, ClientApp, NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.common import FitIns, FitRes, Parameters, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.compat.common.recorddict_compat import parameters_to_arrayrecord
from flwr.server import LegacyContext
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

from coordinator.exchange import InProcessGrid

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FlowerSum:
    """The decoded sum of the survivors, float64, bytes sent by each node, and seconds that calls of clients took by stage, all added."""

    total: NDArray[np.float64]
    bytes_up: Mapping[int, int]
    client_seconds: Mapping[str, float]


def flower_sum(vectors: Mapping[int, Vector], bound: float, threshold: int, dropped: Collection[int] = (), threads: int = 1) -> FlowerSum:
    """Sums vectors of values within `bound`; those who dropped answer until the masked vectors are collected.

    All shares to all, 2^22 steps (Flower's default), equal weights; no model goes out to the clients, and nothing is serialised
    beyond what mod and workflow do themselves, both of which spare Flower time.
    """
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    grid, strategy = _DirectGrid(vectors, dropped, threads), _Everyone(vectors)
    context = LegacyContext(Context(1, 1, {}, RecordDict(), {}), strategy=strategy)
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    context.state.array_records[MAIN_PARAMS_RECORD] = parameters_to_arrayrecord(_no_parameters(), keep_input=True)
    SecAggPlusWorkflow(1.0, threshold, max_weight=1.0, clipping_range=bound)(grid, context)
    total = parameters_to_ndarrays(strategy.mean)[0]
    total *= strategy.survivors
    return FlowerSum(total, grid.bytes_up, grid.seconds)


@dataclass
class _Member(NumPyClient):
    vector: Vector

    def fit(self, parameters: list[NDArray[Any]], config: dict[str, Any]) -> tuple[list[Vector], int, dict[str, Any]]:
        return [self.vector], 1, {}


class _Everyone(FedAvg):
    """Asks every node, and keeps the mean that the workflow has computed instead of averaging it once more."""

    def __init__(self, nodes: Iterable[int]) -> None:
        super().__init__()
        self._nodes = list(nodes)
        self.mean, self.survivors = _no_parameters(), 0

    def configure_fit(self, server_round: int, parameters: Parameters, client_manager: Any) -> list[tuple[Any, FitIns]]:
        return [(SimpleNamespace(node_id=node), FitIns(_no_parameters(), {})) for node in self._nodes]

    def aggregate_fit(self, server_round: int, results: list[tuple[Any, FitRes]], failures: list[Any]) -> tuple[None, dict[str, Any]]:
        self.mean, self.survivors = results[0][1].parameters, len(results)
        return None, {}


@dataclass
class _DirectGrid(InProcessGrid):
    """Calls the apps, so many threads side by side; who is in `dropped` falls silent when masked vectors are collected."""

    vectors: Mapping[int, Vector]
    dropped: Collection[int]
    threads: int
    bytes_up: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def __post_init__(self) -> None:
        apps = {node: ClientApp(client_fn=_client_of(vector), mods=[secaggplus_mod]) for node, vector in self.vectors.items()}
        super().__init__(apps, {node: Context(1, node, {}, RecordDict(), {}) for node in self.vectors})
        TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1  # which Message() reads

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        with ThreadPoolExecutor(self.threads) as pool:
            return [reply for reply in pool.map(self._answered, messages) if reply is not None]

    def _answered(self, sent: Message) -> Message | None:
        stage, node = str(sent.content.config_records[RECORD_KEY_CONFIGS][Key.STAGE]), sent.metadata.dst_node_id
        if node in self.dropped and stage == Stage.COLLECT_MASKED_VECTORS:
            return None
        start = time.perf_counter()
        reply = self._apps[node](copy.deepcopy(sent), self._contexts[node])  # the mod alters what it is given
        self.seconds[stage] += time.perf_counter() - start
        self.bytes_up[node] += sum(map(_value_bytes, reply.content.config_records[RECORD_KEY_CONFIGS].values()))
        return reply


def _client_of(vector: Vector) -> Any:
    def client(_: Context) -> Client:
        return _Member(vector).to_client()

    return client


def _value_bytes(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_value_bytes, value))
    return len(value) if isinstance(value, bytes | str) else 8


def _no_parameters() -> Parameters:
    return ndarrays_to_parameters([])
