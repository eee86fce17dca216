"""A reply whose objects are on their way is looked at again, and the look itself ends at once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from flwr.app import ArrayRecord, Message, Metadata, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, PullObjectRequest, PullObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import InflatableObject, get_all_nested_objects, get_object_tree
from flwr.supercore.run import Run

from coordinator.flower_grid import LinkGrid
from protocols.wire import Parcel, from_record, to_record


class SuperLink:
    """Its Runtime API: a reply is told of once, and an object is there, on its way, or gone."""

    def __init__(self, root: InflatableObject) -> None:
        objects = {one: value.deflate() for one, value in get_all_nested_objects(root).items()}
        self.root, self.tree, self.objects = root.object_id, get_object_tree(root), objects
        self.there, self.gone = set[str](), False
        self.told: list[str] = []
        self.asked: list[str] = []
        self.confirmed: list[str] = []

    def tell(self, request: PullAppMessagesRequest) -> PullAppMessagesResponse:
        answer = PullAppMessagesResponse()
        self.told += request.message_ids
        message = Message(
            content=RecordDict(), metadata=Metadata(1, self.root, 2, SUPERLINK_NODE_ID, "question", "", 1e9, 60.0, "query.hello")
        )
        answer.messages_list.append(message_to_proto(message))
        answer.message_object_trees.append(self.tree)
        return answer

    def give(self, request: PullObjectRequest) -> PullObjectResponse:
        one = request.object_id
        self.asked.append(one)
        there = one in self.there
        return PullObjectResponse(object_found=not self.gone, object_available=there, object_content=self.objects[one] if there else b"")

    def confirm(self, request: ConfirmMessageReceivedRequest) -> None:
        self.confirmed.append(request.message_object_id)


def make_reply() -> Message:
    metadata = Metadata(1, "", 2, SUPERLINK_NODE_ID, "question", "", 1e9, 60.0, "query.hello")
    return Message(content=to_record(Parcel(b"answer")), metadata=metadata)


def make_grid(server: SuperLink) -> LinkGrid:
    grid = LinkGrid("127.0.0.1:1", b"", "token", 0.0)
    grid.set_run(Run.create_empty(1))
    grid._client = SimpleNamespace(PullMessages=server.tell, PullObject=server.give, ConfirmMessageReceived=server.confirm)
    return grid


def pull(grid: LinkGrid) -> list[Message]:
    return list(grid.pull_messages(["question"]))


def test_a_reply_is_taken_once_all_its_objects_are_there() -> None:
    server = SuperLink(make_reply())
    grid, (last, *others) = make_grid(server), [server.root, *(one for one in server.objects if one != server.root)]
    assert pull(grid) == pull(grid) == []
    server.there = {last, *others[1:]}
    assert pull(grid) == []
    before = len(server.asked)
    assert pull(grid) == [] and server.asked[before:] == [last, others[0]], "what is there is not fetched at every look"
    server.there = set(server.objects)
    (message,) = pull(grid)
    assert from_record(message.content).envelope == b"answer"
    assert (server.told, server.confirmed) == (["question"], [server.root])


def test_a_reply_that_the_server_let_go_of_was_lost() -> None:
    server = SuperLink(make_reply())
    grid = make_grid(server)
    assert pull(grid) == []
    server.gone = True
    (message,) = pull(grid)
    assert (message.error.code, message.metadata.reply_to_message_id) == (ErrorCode.NODE_UNAVAILABLE, "question")


def test_what_is_no_message_is_unreadable() -> None:
    server = SuperLink(ArrayRecord())
    server.there = set(server.objects)
    with pytest.raises(TypeError):
        pull(make_grid(server))


def test_a_reply_that_nobody_looks_at_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    server = SuperLink(make_reply())
    grid = make_grid(server)
    assert pull(grid) == []
    monkeypatch.setattr("coordinator.flower_grid._LONGEST_KEPT_SECONDS", -1.0)
    list(grid.pull_messages(["another"]))
    assert server.told == ["question", "another"]
    assert set(grid._replies) == {"question"}, "told of anew"
