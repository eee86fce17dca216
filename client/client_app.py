"""The Flower ClientApp: every message type goes through `client.answering`, nothing is decided here."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.answering import MESSAGE_TYPES, answer
from client.node import Node
from protocols.wire import from_record, to_record

OpenNode = Callable[[Context], Node]


def make_client_app(open_node: OpenNode) -> ClientApp:
    """A ClientApp whose messages are answered by the node that `open_node` gives for Flower's context."""
    client_app = ClientApp()

    def handle(message: Message, context: Context) -> Message:
        node = open_node(context)
        parcel = answer(node, message.metadata.message_type, from_record(message.content))
        return Message(to_record(parcel), reply_to=message)

    for message_type in MESSAGE_TYPES:
        category, _, action = message_type.partition(".")
        getattr(client_app, category)(action)(handle)
    return client_app
