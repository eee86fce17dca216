"""Each message that a SuperNode pulls has its own reply, whatever became of others; on Flower's own state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flwr.app import Error, Message, Metadata, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode, SubStatus
from flwr.supercore.constant import TaskType
from flwr.supercore.object_store import ObjectStore, ObjectStoreFactory
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState
from flwr.supernode.start_client_internal import _insert_message, _push_messages

from client.message_turns import pull_or_forget, push_until_answered

NODE, RUN = 7, 1


class Node:
    """A SuperNode's state and what it sent; `pull` and `push` are its main loop's."""

    def __init__(self) -> None:
        self.store: ObjectStore = ObjectStoreFactory().store()
        self.state, self.sent = InMemoryNodeState(self.store), list[tuple[str, int]]()
        self.state.set_node_id(NODE)
        self.arrives: Callable[[], int | None] = lambda: None
        self.meanwhile: list[Callable[[], None]] = []  # what happens in each further pause
        self._pull, self._push = pull_or_forget(lambda **_: self.arrives()), push_until_answered(_push_messages, self._pause)

    def pull(self) -> int | None:
        return self._pull(state=self.state, object_store=self.store)

    def push(self) -> None:
        def send(reply: Message, *_: object) -> tuple[set[str], str]:
            self.sent.append((reply.metadata.reply_to_message_id, reply.error.code if reply.has_error() else 0))
            return set(), ""

        self._push(state=self.state, object_store=self.store, send=send, push_object=lambda *_: None)

    def _pause(self, _: float) -> None:
        self.meanwhile.pop(0)()

    def hold(self, name: str, run: int = RUN) -> int:
        """A message of that id is there, and a process has claimed and begun its task, whose id is returned."""
        metadata = Metadata(run, name, SUPERLINK_NODE_ID, NODE, "", "group", 1e9, 600.0, "query.hello")
        self.state.store_message(Message(content=RecordDict(), metadata=metadata))
        task: int | None = self.state.create_task(TaskType.CLIENT_APP, run, "hash")
        assert task is not None
        self.state.claim_task(task)
        self.state.activate_task(task)
        return task

    def answer(self, name: str, run: int = RUN) -> None:
        metadata = Metadata(run, name, SUPERLINK_NODE_ID, NODE, "", "group", 1e9, 600.0, "query.hello")
        reply = Message(Error(ErrorCode.INVALID_FAB, ""), reply_to=Message(content=RecordDict(), metadata=metadata))
        _insert_message(reply, self.state, self.store)

    def end(self, task: int, how: str = SubStatus.COMPLETED) -> None:
        self.state.finish_task(task, how, "")


@pytest.fixture
def node() -> Node:
    return Node()


def test_a_reply_of_another_turn_leaves_none_behind(node: Node) -> None:
    node.answer("of a run that ended", run=9)
    task = node.hold("now")
    node.meanwhile = [lambda: node.answer("now"), lambda: node.end(task)]
    node.push()
    assert [name for name, _ in node.sent] == ["of a run that ended", "now"]
    assert node.pull() is None and not node.state.msg_store


def test_a_message_whose_run_ended_while_it_was_received_is_forgotten_with_its_task(node: Node) -> None:
    task = node.hold("half")
    assert node.pull() is None
    assert not node.state.msg_store
    (found,) = node.state.get_tasks(task_ids=[task])
    assert found.status.sub_status == SubStatus.FAILED
    task = node.hold("next")
    node.meanwhile = [lambda: node.answer("next"), lambda: node.end(task)]
    node.push()
    assert [name for name, _ in node.sent] == ["next"]


def test_a_reply_to_what_was_forgotten_takes_nobody_s_turn(node: Node) -> None:
    node.hold("half")
    node.answer("half")
    assert node.pull() is None
    task = node.hold("next", run=2)
    node.meanwhile = [lambda: node.answer("next", run=2), lambda: node.end(task)]
    node.push()
    assert [name for name, _ in node.sent] == ["half", "next"]


def test_a_task_that_outlives_its_message_is_waited_for(node: Node) -> None:
    """When it dies, Flower answers whatever message of the run a process has by then."""
    task = node.hold("one")
    node.answer("one")
    node.meanwhile = [lambda: None, lambda: node.end(task, SubStatus.FAILED)]
    node.push()
    assert node.sent == [("one", ErrorCode.INVALID_FAB)] and not node.meanwhile


def test_a_turn_with_a_reply_alone_pushes_it(node: Node) -> None:
    node.answer("of a bundle that Flower refused")
    node.push()
    assert len(node.sent) == 1


def test_a_message_that_came_keeps_its_task(node: Node) -> None:
    task = node.hold("whole")
    node.arrives = lambda: RUN
    assert node.pull() == RUN
    (found,) = node.state.get_tasks(task_ids=[task])
    assert found.status.sub_status == ""


def test_a_message_whose_task_died_before_it_took_the_message_is_answered(node: Node) -> None:
    task = node.hold("now")

    node.meanwhile = [lambda: node.end(task, SubStatus.FAILED)]
    node.push()
    assert node.sent == [("now", ErrorCode.CLIENT_APP_CRASHED)]


def test_a_task_that_ends_with_its_reply_is_answered_once(node: Node) -> None:
    task = node.hold("now")

    def both() -> None:
        node.answer("now")
        node.end(task)

    node.meanwhile = [both]
    node.push()
    assert node.sent == [("now", ErrorCode.INVALID_FAB)]


def test_without_us_flower_is_one_reply_behind(node: Node) -> None:
    """What the module is for; should an upgrade mend it, the module can go."""
    sent: list[Any] = []

    def send(reply: Message, *_: object) -> tuple[set[str], str]:
        sent.append(reply.metadata.reply_to_message_id)
        return set(), ""

    node.answer("of a run that ended", run=9)
    node.hold("now")
    _push_messages(node.state, node.store, send, lambda *_: None)
    assert sent == ["of a run that ended"]
