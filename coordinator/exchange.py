"""Asking institutions over a Flower grid: requests go out together, answers are handed over one at a time as they arrive."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from flwr.app import ArrayRecord, Context, Error, Message, Metadata, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from protocols.wire import Parcel, WireError, deserialize, from_record, release, serialize, to_arrays, to_record

Arrays = Mapping[str, NDArray[Any]]
App = Callable[[Message, Context], Message]
MOST_ENVELOPE_BYTES = 2**25  # vectors travel outside; the largest setup answer among 250 institutions has 1 MB
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
    """Sends parcels to nodes and yields their answers. At most one answer is held at a time, so memory does not grow with the cohort."""

    def __init__(
        self,
        grid: Grid,
        poll_seconds: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._grid = grid
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._sleep = sleep

    def nodes(self) -> list[int]:
        """Flower's ids of the nodes that are connected now; a hint for routing, no identity."""
        return sorted(self._grid.get_node_ids())

    def ask(self, stage: str, parcels: Iterable[tuple[int, Parcel]], group: str, deadline: float) -> Iterator[Answer]:
        """Answers in the order of their arrival, until all are there or `deadline` seconds have passed.

        Args:
            stage: Flower's message type, such as "train.sum".
            parcels: node and request. Messages are pushed one by one, so that large ones are not all in memory.
            group: names the round in Flower's own listings.
            deadline: seconds from now.
        """
        waiting: dict[str, tuple[int, int]] = {}
        shared: tuple[Arrays, ArrayRecord] | None = None  # the same arrays to many nodes are encoded, and held, once
        for node, parcel in parcels:
            if shared is None or shared[0] is not parcel.arrays:
                shared = (parcel.arrays, to_arrays(parcel.arrays))
            message = self._grid.create_message(to_record(parcel, shared[1]), stage, node, group, ttl=deadline)
            size = len(serialize(message))
            waiting.update((identifier, (node, size)) for identifier in self._grid.push_messages([message]) if identifier)
        yield from self._arriving(waiting, self._clock() + deadline)

    def _arriving(self, waiting: dict[str, tuple[int, int]], end: float) -> Iterator[Answer]:
        """Each look is a request: while nothing comes it is at one message a turn, and whatever comes makes it look at all at once."""
        queue, at_once, last = deque(waiting), 0, False
        while queue:
            identifier = queue.popleft()
            if replies := self._pull(identifier):
                at_once = len(queue)
                yield from (_answer(reply, *waiting[identifier]) for reply in replies)
                continue
            queue.append(identifier)
            if at_once:
                at_once -= 1
            elif last:
                return
            elif not self._wait(end):
                at_once, last = len(queue), True

    def _pull(self, identifier: str) -> list[Message | None]:
        """The reply if it is there; None stands for one that Flower itself cannot read, whose bytes are the node's own."""
        try:
            return list(self._grid.pull_messages([identifier]))
        except UNREADABLE:
            return [None]

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
        return Answer(node, None, f"the node failed (Flower error {reply.error.code})", 0, bytes_down)
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
