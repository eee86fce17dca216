"""Asking institutions over a Flower grid: requests go out together, answers are handed over one at a time as they arrive."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from flwr.app import ArrayRecord, Context, Error, Message, Metadata, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from coordinator.repeats import AWAY_SECONDS, LOOK_SECONDS, MOST_REPEATS, Asked, asked_again, given_up, note_away
from protocols.errors import FlowerAway
from protocols.wire import Parcel, WireError, deserialize, from_record, release, serialize, to_arrays, to_record

Arrays = Mapping[str, NDArray[Any]]
Connected = Callable[[], Mapping[int, str]]  # nodes that are connected now; the text is another one after each new connection
App = Callable[[Message, Context], Message]
MOST_ENVELOPE_BYTES = 2**25  # vectors travel outside; the largest setup answer among 250 institutions has 1 MB
LOST = (ErrorCode.NODE_UNAVAILABLE, ErrorCode.CLIENT_APP_CRASHED)  # Flower's words for a lost connection, and a lost process of ours
LATE = (ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE)  # for a message that is older than the deadline
# What Flower's decoders raise on a node's bytes; a server that cannot be reached raises others, and ends the run.
UNREADABLE = (DecodeError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request; `parcel` is None when the node failed, and `error` says how as far as is known."""

    node: int
    parcel: Parcel | None
    error: str
    bytes_up: int
    bytes_down: int


class Exchange:
    """Sends parcels to nodes and yields their answers. At most one answer is held at a time, so memory does not grow with the cohort.

    A request that was lost with a connection, or with a node's process, is asked again; nodes answer the same again. A node that left its
    last request unanswered is waited for while it is connected, and no longer: its absence costs one stage, not each that follows.
    """

    def __init__(
        self,
        grid: Grid,
        poll_seconds: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        connected: Connected | None = None,
    ) -> None:
        """None for `connected` is for nodes that cannot go away: nothing is asked again."""
        self._grid = grid
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._sleep = sleep
        self._connected = connected
        self._silent: set[int] = set()  # nodes that left their last request unanswered

    def nodes(self) -> list[int]:
        """Flower's ids of the nodes that are connected now; a hint for routing, no identity."""
        return sorted(self._grid.get_node_ids())

    def ask(
        self,
        stage: str,
        nodes: Iterable[int],
        parcel_of: Callable[[int], Parcel],
        group: str,
        deadline: float,
        patience: float = AWAY_SECONDS,
        dismissed: Callable[[], Mapping[int, str]] = dict,
    ) -> Iterator[Answer]:
        """Answers in the order of their arrival, until all are there or `deadline` seconds have passed.

        Args:
            stage: Flower's message type, such as "train.sum".
            parcel_of: a node's request, the same whenever it is called. Messages are pushed one by one, so that large ones are not all
                in memory.
            group: names the round in Flower's own listings.
            deadline: seconds from now.
            patience: seconds for which a node is waited for that is not connected; none for those that did not answer the last time.
            dismissed: nodes that are waited for no longer, and why; asked every few seconds, and what it raises ends the stage.
        """
        end, connections = self._clock() + deadline, self._connections() or {}
        push, again = self._pusher(stage, parcel_of, group, deadline), self._clock() + LOOK_SECONDS
        waiting = [Asked(node, connections.get(node), node in self._silent) for node in nodes]
        self._silent.update(asked.node for asked in waiting)
        for asked in waiting:
            push(asked)
        looks, late = 1, False
        while waiting:
            arrived = False
            for asked, reply in self._arrived(waiting, looks):
                arrived = True
                if not self._is_lost(asked, reply):
                    waiting.remove(asked)
                    yield self._heard(_answer(reply, asked.node, asked.bytes_down))
            over = late and not arrived
            yield from self._without_hope(waiting, 0.0 if over else patience)
            if over:
                return
            if self._clock() >= again:
                yield from self._dismiss(waiting, dismissed())
                self._repeat(waiting, push)
                again = self._clock() + LOOK_SECONDS
            late = late or not (arrived or self._wait(end))
            looks = len(waiting) if arrived or late else 1

    def _heard(self, answer: Answer) -> Answer:
        if answer.parcel is not None:
            self._silent.discard(answer.node)
        return answer

    def _repeat(self, waiting: list[Asked], push: Callable[[Asked], None]) -> None:
        """Pushes again what was lost, and notes who is away."""
        connections = self._connections()
        note_away(waiting, connections, self._clock())
        for asked in asked_again(waiting, connections):
            push(asked)

    def _dismiss(self, waiting: list[Asked], reasons: Mapping[int, str]) -> Iterator[Answer]:
        for asked in [asked for asked in waiting if asked.node in reasons]:
            waiting.remove(asked)
            yield Answer(asked.node, None, reasons[asked.node], 0, asked.bytes_down)

    def _without_hope(self, waiting: list[Asked], patience: float) -> Iterator[Answer]:
        for asked in given_up(waiting, self._clock(), patience):
            waiting.remove(asked)
            yield Answer(asked.node, None, "its connection was lost and it did not come back in time", 0, asked.bytes_down)

    def _arrived(self, waiting: list[Asked], looks: int) -> Iterator[tuple[Asked, Message | None]]:
        """Each look is a request: while nothing comes there is one a turn, in turn; whatever comes makes the next one look at all."""
        turn = waiting[:looks]
        waiting[:] = waiting[looks:] + turn
        for asked in turn:
            for reply in self._pull(asked):
                yield asked, reply

    def _pusher(self, stage: str, parcel_of: Callable[[int], Parcel], group: str, deadline: float) -> Callable[[Asked], None]:
        shared: list[tuple[Arrays, ArrayRecord]] = []  # the same arrays to many nodes are encoded, and held, once

        def push(asked: Asked) -> None:
            parcel = parcel_of(asked.node)
            if not shared or shared[0][0] is not parcel.arrays:
                shared[:] = [(parcel.arrays, to_arrays(parcel.arrays))]
            message = self._grid.create_message(to_record(parcel, shared[0][1]), stage, asked.node, group, ttl=deadline)
            asked.bytes_down += len(serialize(message))
            asked.identifier, asked.lost_at = next(iter(self._grid.push_messages([message])), ""), None

        return push

    def _pull(self, asked: Asked) -> list[Message | None]:
        """The reply if it is there; None stands for one that Flower itself cannot read, whose bytes are the node's own."""
        try:
            return list(self._grid.pull_messages([asked.identifier])) if asked.identifier else []
        except UNREADABLE:
            return [None]

    def _is_lost(self, asked: Asked, reply: Message | None) -> bool:
        """Whether a reply only says that request or answer was lost, and the node may yet be asked again."""
        if self._connected is None or reply is None or not reply.has_error() or reply.error.code not in LOST:
            return False
        asked.identifier, asked.lost_at = "", self._clock()
        return asked.repeats < MOST_REPEATS

    def _connections(self) -> Mapping[int, str] | None:
        """None where nobody knows now, and where no node can go away."""
        try:
            return self._connected() if self._connected is not None else None
        except FlowerAway:
            return None

    def _wait(self, end: float) -> bool:
        if self._clock() >= end:
            return False
        self._sleep(self._poll_seconds)
        return True


def _answer(reply: Message | None, node: int, bytes_down: int) -> Answer:
    if reply is None:
        return Answer(node, None, "its answer is not in the expected form; both sides must run the same version", 0, bytes_down)
    if reply.has_error():
        # The reason is Flower's own text of a crash on the other machine; it may quote anything, so it is not repeated.
        code = reply.error.code
        return Answer(node, None, "it did not answer in time" if code in LATE else f"the node failed (Flower error {code})", 0, bytes_down)
    try:
        size = len(serialize(reply))
        parcel = from_record(reply.content)
    except Exception as error:
        # Whatever a node makes Flower or numpy stumble over costs that node alone.
        reason = str(error) if isinstance(error, WireError) else f"its answer cannot be read ({type(error).__name__})"
        return Answer(node, None, reason, 0, bytes_down)
    if len(parcel.envelope) > MOST_ENVELOPE_BYTES:
        reason = f"it answered with an envelope of {len(parcel.envelope)} bytes and at most {MOST_ENVELOPE_BYTES} are read"
        return Answer(node, None, reason, size, bytes_down)
    return Answer(node, parcel, "", size, bytes_down)


class InProcessGrid(Grid):
    """A grid whose nodes live in this process. Every message crosses as the bytes of Flower's protobuf, both ways."""

    def __init__(self, apps: Mapping[int, App], contexts: Mapping[int, Context], run_id: int = 1) -> None:
        self._apps = apps
        self._contexts = contexts
        self._run_id = run_id
        self._identifiers = itertools.count(1)
        self._requests: dict[str, Message] = {}

    def set_run(self, run: Run) -> None:
        self._run_id = run.run_id

    @property
    def run(self) -> Run:
        return Run.create_empty(self._run_id)

    def create_message(self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None) -> Message:
        # With explicit metadata: Message() alone reads the process-wide TaskIdentity, which only Flower's own runtimes set.
        metadata = Metadata(self._run_id, "", 1, dst_node_id, "", group_id, time.time(), ttl or 3600.0, message_type)
        return Message(content=content, metadata=metadata)

    def get_node_ids(self) -> list[int]:
        return list(self._apps)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        pushed = []
        for message in messages:
            identifier = f"message-{next(self._identifiers)}"
            self._requests[identifier] = message
            pushed.append(identifier)
        return pushed

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Runs the handlers of these messages now, one after the other."""
        return [self._deliver(identifier) for identifier in message_ids if identifier in self._requests]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, identifier: str) -> Message:
        message = deserialize(serialize(self._requests.pop(identifier)))
        node = message.metadata.dst_node_id
        try:
            reply = self._apps[node](message, self._contexts[node])
        except Exception as error:
            # What stock Flower answers for an app that crashes; the text stays on the node's machine there, and out of messages here.
            reply = Message(error=Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, type(error).__name__), reply_to=message)
        arrived = cast(Message, deserialize(serialize(reply)))
        if reply.has_content():
            release(reply.content)
        return arrived
