"""A whole federation in memory: real nodes, ledgers, registry and Flower messages; only the training is a formula."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Message, RecordDict
from numpy.typing import NDArray

from client.answering import answer
from client.checkpoints import CheckpointOf
from client.client_app import make_client_app
from client.ledger import Ledger
from client.node import Node
from client.work import DraftSums, LocalUpdate, MetricSums, PrivateRound
from coordinator.events import Event
from coordinator.exchange import Exchange, InProcessGrid
from coordinator.job import Operator, RunResult, run_plan
from coordinator.registry.registry import Registry
from model.config import ModelConfig
from model.layout import Adaptation, AdapterConfig
from protocols.identity import Identity
from protocols.keys import Purpose
from protocols.plan import Plan, parse_plan
from protocols.policy import Policy
from protocols.privacy.noise import gaussian
from protocols.privacy.stream import CryptographicStream
from protocols.roster import Roster, RosterEntry
from protocols.schedule import learning_rate
from protocols.state import Experts, Tensors
from protocols.suites import Suite
from protocols.wire import Parcel, deserialize, from_record, serialize

CONFIG = ModelConfig(
    vocab_size=32, hidden_size=8, intermediate_size=12, moe_intermediate_size=6, num_hidden_layers=2, num_attention_heads=2,
    n_routed_experts=4, num_experts_per_tok=2, kv_lora_rank=4, qk_nope_head_dim=4, qk_rope_head_dim=2, v_head_dim=4,
)  # fmt: skip
BASE = "ab" * 32
NAMES = ("ada", "bea", "cyd", "dov")


def make_plan(**tables: Any) -> Plan:
    """A small plan; keyword arguments are tables or top-level values that replace its own."""
    content: dict[str, Any] = {
        "name": "triage",
        "base": {"name": "tiny", "sha256": BASE},
        "rounds": 2,
        "records": {"prompt": "{note}", "target": "{code}", "max_tokens": 16},
        "trainable": {"lora_rank": 2, "expert_rank": 2, "targets": ["attention", "lm_head"]},
        "training": {"local_steps": 4, "batch_size": 2, "learning_rate": 0.01},
        "participation": {"quorum": 3, "deadline": "5s", "retries": 1},
    }
    return parse_plan({**content, **tables}, "test plan")


@dataclass
class FormulaWork:
    """A deterministic update in place of training: a pull towards a target of its own plus a draw from name, round and tensor."""

    name: str
    plan: Plan
    adaptation: Adaptation
    base_sha256: str = BASE
    trainings: list[int] = field(default_factory=list)
    secrets: list[bytes] = field(default_factory=list)  # of private trainings
    max_rank: int | None = None

    @property
    def private(self) -> FormulaPrivate:
        return FormulaPrivate(self)

    def expert_affinity(self) -> Mapping[int, NDArray[np.float64]]:
        return {layer: self._draw("affinity", layer, shape=(count,)) + 0.5 for layer, count in self.adaptation.expert_counts.items()}

    def gradient_sketch(self, tensors: Tensors, experts: Experts, omegas: Mapping[str, NDArray[np.float64]]) -> Tensors:
        return {name: (self.gradient(name) @ omega).astype(np.float32) for name, omega in omegas.items()}

    def gradient_core(self, tensors: Tensors, experts: Experts, bases: Mapping[str, NDArray[np.float64]]) -> Tensors:
        return {name: (q.T @ self.gradient(name)).astype(np.float32) for name, q in bases.items()}

    def gradient(self, module: str) -> NDArray[np.float64]:
        """[out, in]"""
        shapes = {tensor.name: tensor.shape for tensor in self.adaptation.layout({})}
        return self._draw("gradient", module, shape=(shapes[f"{module}.lora_B.weight"][0], shapes[f"{module}.lora_A.weight"][1]))

    def train(
        self,
        round_number: int,
        tensors: Tensors,
        trained: Collection[str],
        experts: Experts,
        corrections: Tensors | None = None,
        checkpoint: CheckpointOf | None = None,
    ) -> LocalUpdate:
        self.trainings.append(round_number)
        step = learning_rate(self.plan, round_number) * self.plan.training.local_steps
        delta = {
            name: (step * (self._draw(round_number, name, shape=tensors[name].shape) - 0.5 * np.tanh(tensors[name]))).astype(np.float32)
            for name in sorted(trained)
        }
        delta |= {name: (delta[name] - step * values).astype(np.float32) for name, values in (corrections or {}).items()}
        counts = {layer: np.array([3, 0, 7, len(self.name) + ord(self.name[0]) % 5]) for layer in self.adaptation.expert_counts}
        return LocalUpdate(delta, loss_sum=8.0 * (2.0 + self._draw("loss", shape=(1,))[0]), examples=8, tokens=24, expert_tokens=counts)

    def train_alone(self, round_number: int, tensors: Tensors, experts: Experts, steps: int | None = None) -> LocalUpdate:
        return self.train(round_number, tensors, tuple(tensors), experts)

    def evaluate(self, tensors: Tensors, experts: Experts) -> MetricSums:
        return MetricSums(float(3 + len(experts) + ord(self.name[0]) % 3), 10)

    def drafts(self, tensors: Tensors, experts: Experts) -> DraftSums:
        return DraftSums(accepted=3 + ord(self.name[0]) % 5, drafted=16)

    def _draw(self, *key: object, shape: tuple[int, ...]) -> NDArray[np.float64]:
        digest = hashlib.sha256(repr((self.name, *key)).encode()).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little"))).uniform(-0.5, 0.5, shape)


@dataclass
class FormulaPrivate:
    """Noise alone, of the round's secret: what is trained is the noise multiplier's share of a small step."""

    work: FormulaWork
    units: int = 500

    def label_counts(self) -> NDArray[np.float64]:
        return np.array([300.0, 200.0])

    def train(self, asked: PrivateRound, checkpoint: CheckpointOf | None = None) -> Tensors:
        self.work.trainings.append(asked.round)
        self.work.secrets.append(asked.secret)
        stream = CryptographicStream(asked.secret, Purpose.NOISE)
        shapes = {name: asked.tensors[name].shape for name in sorted(asked.trained)}
        return {name: (1e-4 * gaussian(int(np.prod(shape)), stream)).reshape(shape).astype(np.float32) for name, shape in shapes.items()}

    def clipped_gradients(self, asked: PrivateRound) -> Iterator[NDArray[np.float64]]:
        self.work.trainings.append(asked.round)
        self.work.secrets.append(asked.secret)
        size = sum(asked.tensors[name].size for name in asked.trained)
        for unit in range(3):
            gradient = self.work._draw(asked.round, unit, shape=(size,))
            yield gradient / np.linalg.norm(gradient)


class Crash(BaseException):
    """The process dies here."""


@dataclass
class Federation:
    """Institutions by name under one directory; opened again, it goes on from what is on disk there."""

    directory: Path
    plan: Plan
    names: Sequence[str] = NAMES
    fails: Callable[[str, str], bool] = lambda *_: False  # (institution, message type) -> does not answer
    events: list[Event] = field(default_factory=list)
    keep_messages: bool = False
    on_answer: Callable[[str, str, Parcel, Parcel], None] | None = None  # (institution, message type, request, answer)
    seed: int | None = None  # of everybody's randomness and of the coordinator's clock, so that a repeated run has the same bytes
    suites: tuple[Suite, ...] = ("SA-1",)  # that institutions accept
    config: ModelConfig = CONFIG
    clock: Callable[[], float] | None = None  # of the coordinator, where it is a test's own
    means: Mapping[str, Any] = field(default_factory=dict)  # of the operator, beyond its own
    messages: list[tuple[str, Message]] = field(default_factory=list)  # requests as they reached institutions

    def __post_init__(self) -> None:
        self.adaptation = Adaptation(self.config, AdapterConfig.from_fields(self.plan.adapter_fields), self.plan.seed)
        self.operator_identity = _identity("operator")
        identities = {name: _identity(name) for name in self.names}
        self.roster = Roster(tuple(RosterEntry(name, identities[name].public_key) for name in sorted(self.names)))
        self.works = {name: FormulaWork(name, self.plan, self.adaptation) for name in self.names}
        self.nodes = {name: self._node(name, identities[name]) for name in self.names}
        self.apps = {name: make_client_app(partial(self._answering, name)) for name in self.names}
        self.registry = Registry.open(str(self.directory / "registry.db"), _now)

    def _answering(self, name: str, _: Context) -> Node:
        return self.nodes[name]

    def run(self, on_event: Callable[[Event], None] = lambda _: None) -> RunResult:
        numbers = dict(enumerate(self.names, 11))
        contexts = {n: Context(run_id=1, node_id=n, node_config={}, state=RecordDict(), run_config={}) for n in numbers}
        self.grid = InProcessGrid({n: self._app(name) for n, name in numbers.items()}, contexts)

        def notice(event: Event) -> None:
            self.events.append(event)
            on_event(event)

        clock = self.clock or (time.monotonic if self.seed is None else float)  # which counts no seconds
        operator = Operator(self.operator_identity, lambda: self.roster, self.randomness("operator"), clock, **self.means)
        exchange = Exchange(self.grid, poll_seconds=0.0)
        return run_plan(
            self.plan,
            exchange,
            self.registry,
            adaptation=self.adaptation,
            operator=operator,
            directory=self.directory / "runs",
            on_event=notice,
        )

    def answer(self, name: str, message_type: str, request: Parcel) -> Parcel:
        """What an institution answers to a request that reached it, whoever sent it on."""
        reply = answer(self.nodes[name], message_type, request)
        if self.on_answer is not None:
            self.on_answer(name, message_type, request, reply)
        return reply

    def randomness(self, name: str) -> Callable[[int], bytes]:
        if self.seed is None:
            return np.random.default_rng().bytes
        return np.random.Generator(np.random.Philox(key=[self.seed, int.from_bytes(name.encode(), "little")])).bytes

    def close(self) -> None:
        self.registry.close()
        for node in self.nodes.values():
            node.ledger.close()

    def of(self, kind: type) -> list[Any]:
        """The events of one type so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def _app(self, name: str) -> Callable[[Message, Context], Message]:
        def app(message: Message, context: Context) -> Message:
            if self.keep_messages:
                self.messages.append((name, deserialize(serialize(message))))
            if self.fails(name, message.metadata.message_type):
                raise ConnectionError(name)
            if self.on_answer is None:
                return self.apps[name](message, context)
            request = from_record(deserialize(serialize(message)).content)
            reply = self.apps[name](message, context)
            self.on_answer(name, message.metadata.message_type, request, from_record(deserialize(serialize(reply)).content))
            return reply

        return app

    def _node(self, name: str, identity: Identity) -> Node:
        ledger = Ledger.open(self.directory / "institutions" / name, _now)
        policy, key = Policy(suites=self.suites), self.operator_identity.public_key
        return Node(identity, self.roster, key, policy, ledger, lambda _: self.works[name], self.randomness(name), _now, b"seed")


def _identity(name: str) -> Identity:
    return Identity.generate(name, lambda size: hashlib.shake_256(name.encode()).digest(size))


def _now() -> datetime:
    return datetime(2030, 1, 1, tzinfo=UTC)
