"""A federation whose whole conversation is written down, over as many lives as its parties have."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from flwr.app import Context, Message

from client.checkpoints import CheckpointOf
from client.ledger import Ledger
from client.node import Node
from client.vectors import TRAINING, Vectors
from client.work import LocalUpdate, MetricSums
from protocols.identity import Envelope, Identity, open_envelope, open_envelope_of
from protocols.pack import unpack
from protocols.stages import ANSWERED_ONCE
from protocols.state import Experts, Tensors
from protocols.wire import Parcel, deserialize, from_record, serialize
from tests.federation.crashes.points import Points
from tests.federation.federation import Crash, Federation, FormulaWork


@dataclass(frozen=True)
class Answered:
    """A request that got an answer and no refusal."""

    institution: str
    envelope: Envelope  # of the request
    parts: Mapping[str, bytes]  # of the request


@dataclass
class Log:
    """What was said and stored, in all lives."""

    requests: dict[tuple[str, str], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    replies: dict[tuple[str, str], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    arrays: dict[tuple[str, str], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    answered: list[Answered] = field(default_factory=list)
    vectors: dict[tuple[str, int, str], set[tuple[bytes, int]]] = field(default_factory=lambda: defaultdict(set))
    trainings: list[str] = field(default_factory=list)  # institutions
    idle: list[str] = field(default_factory=list)  # work that was done although its outcome was stored


class WatchedWork(FormulaWork):
    """Notes work whose outcome is on disk already."""

    stored: Callable[[str], bool]
    reach: Callable[[str], None]
    log: Log

    def train(
        self,
        round_number: int,
        tensors: Tensors,
        trained: Collection[str],
        experts: Experts,
        corrections: Tensors | None = None,
        checkpoint: CheckpointOf | None = None,
    ) -> LocalUpdate:
        self._note("update")
        self.log.trainings.append(self.name)
        self.reach("at training")
        return super().train(round_number, tensors, trained, experts, corrections)

    def evaluate(self, tensors: Tensors, experts: Experts) -> MetricSums:
        self._note("evaluate")
        return super().evaluate(tensors, experts)

    def _note(self, kind: str) -> None:
        if self.stored(kind):
            self.log.idle.append(f"{self.name} computed a stored vector of {kind} again")


@dataclass
class Watched(Federation):
    """`survives`: whether a node that dies comes back for the very message at which it died; its coordinator lives on meanwhile."""

    log: Log = field(default_factory=Log)
    points: Points = field(default_factory=lambda: Points(Path()))
    survives: bool = True

    def _node(self, name: str, identity: Identity) -> Node:
        self.works[name] = work = WatchedWork(name, self.plan, self.adaptation)
        with self.points.of(name):
            node = self._opened(name, identity)
        work.log, work.reach, work.stored = self.log, self.points.reach, lambda kind: _is_stored(node.ledger, kind)
        return node

    def _opened(self, name: str, identity: Identity) -> Node:
        try:
            return super()._node(name, identity)
        except Crash:
            if not self.points.alone:
                raise
            self.points.restore()
            return super()._node(name, identity)

    def _app(self, name: str) -> Callable[[Message, Context], Message]:
        honest = super()._app(name)

        def handled(message: Message, context: Context) -> Message:
            with self.points.of(name, message.metadata.message_type):
                reply = honest(deserialize(serialize(message)), context)
                self._write_down(name, message, reply)
                self.points.reach("answered and not sent")
            return reply

        def app(message: Message, context: Context) -> Message:
            try:
                reply = handled(message, context)
            except Crash:
                if not self.points.alone:
                    raise
                self.restart(name)
                if not self.survives:
                    raise ConnectionError(name) from None
                reply = handled(message, context)
            self.points.reach(f"{message.metadata.message_type} of {name} arrived and not read")
            return reply

        return app

    def restart(self, name: str) -> None:
        """A new process of one institution, on what the former one left."""
        node = self.nodes[name]
        node.ledger.close()
        with self.points.of(name):
            self.points.restore()
        self.nodes[name] = self._node(name, node.identity)

    def _write_down(self, name: str, message: Message, reply: Message) -> None:
        request = _parcel(message)
        envelope = open_envelope_of(request.envelope, self.operator_identity.public_key)
        parts, sent = unpack(envelope.payload), _parcel(reply)
        key = (name, _key(envelope, parts))
        self.log.requests[key].add(request.envelope)
        if "refused" in unpack(open_envelope(sent.envelope, self.roster).payload):
            return
        self.log.answered.append(Answered(name, envelope, parts))
        self.log.replies[key].add(sent.envelope)
        if sent.arrays:  # nothing masked goes out again once its sum is over
            self.log.arrays[key].add(b"".join(hashlib.sha256(values.tobytes()).digest() for values in sent.arrays.values()))


def watch_vectors(log: Log, patch: pytest.MonkeyPatch) -> None:
    """Writes down every vector that a ledger is given to keep."""
    keep = Vectors.keep

    def kept(vectors: Vectors, run: str, number: int, kind: str, state_hash: bytes, content: bytes | memoryview, members: int = 0) -> None:
        log.vectors[vectors._home.name, number, kind].add((bytes(content), members))
        keep(vectors, run, number, kind, state_hash, content, members)

    patch.setattr(Vectors, "keep", kept)


def _is_stored(ledger: Ledger, kind: str) -> bool:
    kinds = (kind, TRAINING if kind == "update" else kind)
    return bool(ledger._database.execute("SELECT count(*) FROM vectors WHERE sum IN (?, ?)", kinds).fetchone()[0])


def _parcel(message: Message) -> Parcel:
    return from_record(deserialize(serialize(message)).content)


def _key(envelope: Envelope, parts: Mapping[str, bytes]) -> str:
    part = int.from_bytes(parts.get("part", b""), "little")
    return f"{envelope.run}/{envelope.round}/{envelope.attempt}/{envelope.stage}/{part}"


def is_once(key: str) -> bool:
    """Whether an institution answers the message with this key once."""
    return any(f"/{message_type}/" in key for message_type in (*ANSWERED_ONCE, "query.upload"))
