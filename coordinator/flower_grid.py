"""Flower's grid of one run, with waits that end: a reply whose objects are still on their way is left for the next look."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from flwr.app import Error, Message, Metadata, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.serde import run_from_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullTaskInputRequest, PushTaskOutputRequest
from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflate_object_from_contents,
    pull_objects,
)
from flwr.superlink.grid import HttpGrid

from protocols.errors import FlowerAway, FlowerRefused
from protocols.flower import FIRST_PAUSE_SECONDS, patient, translated

_FIRST_TRIES = 4  # of an object, when the server tells of its reply: 0.7 s, as most objects come just after that
_LONGEST_KEPT_SECONDS = 3600.0  # of a reply that nobody looks at any more


@dataclass(slots=True)
class _Reply:
    """What the server tells of a reply, once: its objects, the message itself last. `missing` was not there at the last look."""

    objects: tuple[str, ...]
    missing: str
    looked_at: float
    tries: int = _FIRST_TRIES

    @property
    def message(self) -> str:
        return self.objects[-1]


class LinkGrid(HttpGrid):
    """Flower's grid of one run, whose errors are FlowerAway (after a bounded wait) and FlowerRefused, with no process-wide state."""

    def __init__(self, address: str, roots: bytes, token: str, patience: float) -> None:
        super().__init__(address, root_certificates=roots, token=token)
        self._retry_invoker = patient(patience)  # before the first call: the client that calls is made then
        self._peer = f"the SuperLink at {address}"
        self._replies: dict[str, _Reply] = {}  # those that are not complete, by the message that they answer

    def begin(self) -> None:
        """Tells the server that the claimed task has begun, and learns the run."""
        with translated(self._peer):
            self.set_run(run_from_proto(self._runtime_client.PullTaskInput(PullTaskInputRequest()).run))

    def end(self, status: str) -> None:
        """Ends the run, if the server is there to hear it; why it ended is not told to Flower."""
        self._retry_invoker.max_tries = 1
        with suppress(FlowerAway, FlowerRefused), translated(self._peer):
            self._runtime_client.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=""))
        self.close()

    def create_message(self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None) -> Message:
        # With explicit metadata: Message() alone reads the process-wide TaskIdentity, and one process may drive several runs.
        metadata = self._metadata(dst_node_id, message_type, ttl or 3600.0, group_id)
        return Message(content=content, metadata=metadata)

    def get_node_ids(self) -> Iterable[int]:
        with translated(self._peer):
            return list(super().get_node_ids())

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        with translated(self._peer):
            return list(super().push_messages(messages))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies that are there with all their objects; the others are asked for again, and none is waited for.

        Flower's own waits two hours for the objects of a reply, whose node may have vanished in the middle.
        """
        asked = list(message_ids)
        with translated(self._peer):
            self._hear([one for one in asked if one not in self._replies])
            looked = [self._look(one) for one in asked if one in self._replies]
        return [message for message in looked if message is not None]

    def _hear(self, asked: list[str]) -> None:
        """Asks which replies there are; the server tells of each once."""
        if not asked:
            return
        now, found = time.monotonic(), self._runtime_client.PullMessages(PullAppMessagesRequest(message_ids=asked))
        self._replies = {one: reply for one, reply in self._replies.items() if reply.looked_at > now - _LONGEST_KEPT_SECONDS}
        for message, tree in zip(found.messages_list, found.message_object_trees, strict=True):
            objects = tuple(dict.fromkeys(one.object_id for one in iterate_object_tree(tree)))
            self._replies[message.metadata.reply_to_message_id] = _Reply(objects, objects[-1], now)

    def _look(self, asked: str) -> Message | None:
        """The reply to a message, None while it is incomplete; an error that says so where its objects will never come."""
        reply = self._replies[asked]
        try:
            contents = self._contents(reply)
        except ObjectPullError:
            del self._replies[asked]
            # As if the node had been lost on the way to its answer: whoever is connected is asked again.
            lost = Error(ErrorCode.NODE_UNAVAILABLE, "")
            return Message(error=lost, metadata=self._metadata(SUPERLINK_NODE_ID, SYSTEM_MESSAGE_TYPE, 0.0, "", asked))
        if contents is None:
            return None
        del self._replies[asked]
        run, message = self.run.run_id, reply.message
        self._runtime_client.ConfirmMessageReceived(ConfirmMessageReceivedRequest(node=self.node, run_id=run, message_object_id=message))
        inflated = inflate_object_from_contents(message, contents)
        if not isinstance(inflated, Message):
            raise TypeError("a reply is no message")
        return inflated

    def _contents(self, reply: _Reply) -> dict[str, bytes] | None:
        """A reply's objects, or None while one of them is on its way. What is asked for first tells: nodes send the message itself last.

        Raises:
            ObjectPullError: the server let go of it, as its node sent nothing more for three minutes.
        """
        pull, on_its_way = make_pull_object_fn_protobuf(self._runtime_client.PullObject, self.node, self.run.run_id), False

        def look(one: str) -> bytes:
            nonlocal on_its_way
            try:
                return bytes(pull(one))
            except ObjectUnavailableError:
                reply.missing, on_its_way = one, True
                raise

        contents: dict[str, bytes] = {}
        tries, reply.tries, reply.looked_at = reply.tries, 1, time.monotonic()
        try:
            for some in ((reply.message,), (reply.missing,), reply.objects):
                new = [one for one in some if one not in contents]
                contents |= pull_objects(new, look, max_tries_per_object=tries, initial_backoff=FIRST_PAUSE_SECONDS)
        except ObjectPullError:
            if not on_its_way:
                raise
            return None
        return contents

    def _metadata(self, node: int, message_type: str, ttl: float, group: str, reply_to: str = "") -> Metadata:
        return Metadata(self.run.run_id, "", SUPERLINK_NODE_ID, node, reply_to, group, time.time(), ttl, message_type)
