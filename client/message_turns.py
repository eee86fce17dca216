"""One message, one reply, in Flower's main loop: it pushes what replies it finds after each message that it pulled, and none between two.

A reply that came in another message's turn, such as that of a run which has ended since, would leave all further replies a turn late: each
waits until the coordinator's next message, which waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flwr.app import Message
from flwr.common.constant import Status, SubStatus
from flwr.supercore.object_store import ObjectStore
from flwr.supernode.nodestate.in_memory_nodestate import CLIENT_APP_CRASHED_ERROR, InMemoryNodeState
from flwr.supernode.start_client_internal import _insert_message

_PAUSE = 0.5  # seconds: Flower's own
_SHORT_PAUSE = 0.05  # for a task that is about to end: its reply was there
_OPEN = (Status.PENDING, Status.STARTING, Status.RUNNING)


def pull_or_forget(pull: Callable[..., int | None]) -> Callable[..., int | None]:
    """Flower's pull, which leaves a message behind whose run ended while it was received; here it is forgotten, and its task with it."""

    def pull_one(*, state: InMemoryNodeState, object_store: ObjectStore, **rest: Any) -> int | None:
        run_id = pull(state=state, object_store=object_store, **rest)
        if run_id is None:
            for message in _unanswered(state):
                _forget(message, state, object_store)
        return run_id

    return pull_one


def push_until_answered(push: Callable[..., None], sleep: Callable[[float], None]) -> Callable[..., None]:
    """Flower's push of all replies that are there, until every message that was pulled has its own and no task is left.

    A task that outlived its message would be taken for the next one's: when it dies, Flower answers that in its stead. A message whose task
    died before it had the message is answered with Flower's error for that, which else it would never be.
    """

    def push_all(*, state: InMemoryNodeState, object_store: ObjectStore, **rest: Any) -> None:
        while True:
            tasks, messages = (
                state.get_tasks(statuses=_OPEN),
                _unanswered(state),
            )  # before the replies: a task ends after its reply was stored
            if _has_reply(state):
                push(state=state, object_store=object_store, **rest)
            elif tasks:
                sleep(_PAUSE if messages else _SHORT_PAUSE)
            elif messages:
                for message in messages:
                    _insert_message(Message(CLIENT_APP_CRASHED_ERROR, reply_to=message), state, object_store)
            else:
                return

    return push_all


def _unanswered(state: InMemoryNodeState) -> list[Message]:
    """Flower deletes a message with its reply, once that was pushed."""
    with state.lock_msg_store:
        return [entry.message for entry in state.msg_store.values() if not entry.message.metadata.reply_to_message_id]


def _has_reply(state: InMemoryNodeState) -> bool:
    with state.lock_msg_store:
        return any(entry.message.metadata.reply_to_message_id and not entry.is_retrieved for entry in state.msg_store.values())


def _forget(message: Message, state: InMemoryNodeState, object_store: ObjectStore) -> None:
    identifier, run_id = message.metadata.message_id, message.metadata.run_id
    state.delete_messages(message_ids=[identifier])
    object_store.delete(identifier)
    for task in state.get_tasks(run_ids=[run_id], statuses=_OPEN):
        state.finish_task(task.task_id, sub_status=SubStatus.FAILED, details="the run ended while its message was received")
