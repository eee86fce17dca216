"""The Flower ClientApp: every message type goes through `client.answering`, nothing is decided here."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.answering import MESSAGE_TYPES, answer
from client.begun import check_not_lost, mark_begun
from client.errors import SettingsError
from client.figures import Watch
from client.folder_node import FolderNode
from client.institution import open_node
from client.node import Node, logger
from client.settings import load_settings
from client.work import Work
from protocols.errors import ConsortiumError, Refusal
from protocols.plan import Plan
from protocols.wire import from_record, to_record

OpenNode = Callable[[Context], Node]
_LONG = {"train.sum": "trains", "evaluate.sum": "evaluates"}


def make_client_app(open_node_of: OpenNode, watch: Watch = lambda *_: None) -> ClientApp:
    """A ClientApp whose messages are answered by the node that `open_node_of` gives for a context; `watch` is told of each answer."""
    client_app = ClientApp()

    def handle(message: Message, context: Context) -> Message:
        began, parcel = time.monotonic(), None
        try:
            parcel = answer(open_node_of(context), message.metadata.message_type, from_record(message.content))
            return Message(to_record(parcel), reply_to=message)
        except Exception as error:
            # Flower sends the text of whatever leaves an app to its server, and ours may name paths of this institution.
            logger.error(
                "%s failed: %s", message.metadata.message_type, error, exc_info=None if isinstance(error, ConsortiumError) else error
            )
            raise Refusal(
                f"no answer to {message.metadata.message_type} ({type(error).__name__}); the institution's log says why"
            ) from None
        finally:
            watch(message.metadata.message_type, parcel, time.monotonic() - began)

    for message_type in MESSAGE_TYPES:
        category, _, action = message_type.partition(".")
        getattr(client_app, category)(action)(handle)
    return client_app


def telling(app: Callable[[Message, Context], Message], say: Callable[[str], None]) -> Callable[[Message, Context], Message]:
    """`app`, which says what takes long before it begins."""

    def told(message: Message, context: Context) -> Message:
        if message.metadata.message_type in _LONG:
            run, _, number = ascii(message.metadata.group_id)[1:-1][:80].rpartition("/")  # not verified yet: cut and escaped
            say(f"{_LONG[message.metadata.message_type]} for round {number} of {run}")
        return app(message, context)

    return told


class FolderNodes:
    """Nodes of the folders that Flower's configuration names, kept warm as long as Flower keeps the process."""

    def __init__(self) -> None:
        self._nodes: dict[Path, FolderNode] = {}

    def __call__(self, context: Context) -> Node:
        """Node configuration `institution` names a folder; without it, `partition-id` counts those of run configuration `institutions`."""
        own = context.node_config.get("institution")
        folder = Path(str(own)) if own else _numbered(context)
        if folder not in self._nodes:
            # Run configuration is the operator's: whoever knows the seed of a deployed node's rounding could take it out again.
            seed = "" if own else str(context.run_config.get("rounding-seed", ""))
            self._nodes[folder] = FolderNode(folder, open_node(folder, _LastWork(folder), lambda: datetime.now(UTC), seed.encode() or None))
        return self._nodes[folder].current()


def folder_node(folder: Path) -> FolderNode:
    """The node of a deployed institution's folder.

    Raises:
        ConsortiumError: a file of the folder is missing or damaged, or the ledger is lost.
    """
    check_not_lost(folder, Path(load_settings(folder / "institution.toml").storage.home))
    node = open_node(folder, _LastWork(folder), lambda: datetime.now(UTC))
    mark_begun(folder)
    return FolderNode(folder, node)


class _LastWork:
    """Opens records and base of the plan that was asked for last, once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, Work] = {}

    def __call__(self, plan: Plan) -> Work:
        # Only here: whoever brings own nodes to make_client_app need not wait for torch.
        from client.workbench import open_workbench

        if plan.sha256 not in self._kept:
            self._kept = {plan.sha256: open_workbench(plan, load_settings(self._folder / "institution.toml"))}
        return self._kept[plan.sha256]


def _numbered(context: Context) -> Path:
    institutions, number = Path(str(context.run_config["institutions"])), int(context.node_config["partition-id"])
    folders = sorted(path for path in institutions.iterdir() if (path / "institution.toml").exists())
    if number >= len(folders):
        raise SettingsError(f"{institutions} holds {len(folders)} institutions and Flower runs node {number}; start fewer nodes")
    return folders[number]


app = make_client_app(FolderNodes())
