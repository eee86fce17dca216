"""Where an institution touches flwr's private parts, with `client.message_turns`: the SuperNode's process, and answering its tasks.

Run as `python -P -m client.flower_node`, this is stock `flower-supernode` with seven differences. Its process ends when its main
loop or a thread of it ends, where Flower's would stay alive and pull nothing more. It touches a file whenever the loop turns. After it
was killed it connects again at once, where the SuperLink would refuse it for a minute. It gives up a reply whose node died half-way, which
Flower's would wait for until it is restarted, and keeps each message's turn (`client.message_turns`). And it looks again soon for an object
that is still on its way, and the pauses of its loop, 3 s between two pulls of an idle node, can be less.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from flwr.app import Context, Error, Message
from flwr.common.constant import ErrorCode, SubStatus
from flwr.proto.fleet_pb2 import ActivateNodeRequest, ActivateNodeResponse, DeactivateNodeRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PushTaskOutputRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_utils import push_object_contents_from_iterable
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.cli import flower_supernode
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.runtime import run_clientapp
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message

from client.message_turns import pull_or_forget, push_until_answered
from protocols.errors import FlowerAway, FlowerRefused
from protocols.files import write_file
from protocols.flower import heart_beats, look_again_soon, runtime_client, translated

App = Callable[[Message, Context], Message]
IDLE_SECONDS = 3  # how long stock Flower 1.41 sleeps between two pulls of an idle node
OBJECT_SECONDS = 30.0  # between two objects of a reply, which a node hands over on loopback from its memory
_COMPONENT = "flwr-clientapp"


@dataclass(frozen=True, slots=True)
class SuperNodeFiles:
    """What a SuperNode reads, and `alive`, whose modification time is the last turn of its main loop.

    `authority` certifies the server, `key` is an EC private key in OpenSSH form, `secret` is shared with `serve_tasks` (mode 0600).
    """

    authority: Path
    key: Path
    secret: Path
    alive: Path


def supernode_command(server: str, files: SuperNodeFiles, port: int, idle_seconds: float = IDLE_SECONDS) -> list[str]:
    """A SuperNode that executes nothing itself: whoever knows the secret claims its tasks on loopback.

    Args:
        server: host and port under which this machine reaches the coordinator's SuperLink.
        port: of the Runtime API on 127.0.0.1.
        idle_seconds: longest pause of its loop, such as that between two pulls while there is nothing to do.
    """
    return [
        sys.executable, "-P", "-m", "client.flower_node", "--idle", str(idle_seconds), "--alive", str(files.alive), "--",
        "--superlink", server, "--root-certificates", str(files.authority), "--auth-supernode-private-key", str(files.key),
        "--isolation", "process", "--superexec-auth-secret-file", str(files.secret), "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip


def serve_tasks(
    runtime: str,
    secret: bytes,
    app: App,
    allowed: Collection[str],
    should_stop: Callable[[], bool],
    *,
    alive: Path,
    log: Callable[[str], None],
    poll_seconds: float = 0.2,
    patience: float = 120.0,
) -> None:
    """Answers a SuperNode's messages with `app`, one after the other in this process, until `should_stop`.

    What the coordinator sent as code is hashed and never unpacked. No text of an exception leaves: Flower's error code alone does.

    Args:
        runtime: host and port of the SuperNode's Runtime API.
        secret: the content of `SuperNodeFiles.secret`.
        app: answers a message, such as `client.client_app.make_client_app`'s; it may be asked the same again.
        allowed: SHA-256 of bundles whose messages are answered, such as that of `protocols.bundle.installed_bundle`.
        should_stop: asked between two messages.
        alive: touched whenever the SuperNode answered, also while `app` works.
        log: told in one sentence what was refused or went wrong.
        poll_seconds: pause while there is nothing to do.
        patience: seconds for which a SuperNode that restarts in the middle of a message is waited for.
    """
    look_again_soon(run_clientapp)
    with runtime_client(runtime, "SuperExec", roots=None, secret=secret) as waiting:
        while not should_stop():
            token = _acquire(waiting, alive)
            if not token:
                time.sleep(poll_seconds)
                continue
            _answer_or_tell(_Task(runtime, token, patience, alive), app, allowed, log)


def _answer_or_tell(task: _Task, app: App, allowed: Collection[str], log: Callable[[str], None]) -> None:
    try:
        with translated(f"the SuperNode at {task.runtime}"):
            task.answer(app, allowed, log)
    except (FlowerAway, FlowerRefused) as error:
        log(f"a message was not answered: {error}")
    except Exception as error:  # whatever the coordinator's bytes make Flower stumble over costs that message alone
        log(f"a message could not be read ({type(error).__name__}); both sides must run the same version")


def _acquire(client: RuntimeHttpClient, alive: Path) -> str:
    """The token of a task, or nothing; a SuperNode that is away has none."""
    try:
        token = str(client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])).token)
    except httpx.HTTPError:
        return ""
    alive.touch()
    return token


@dataclass(frozen=True, slots=True)
class _Task:
    """A claimed task. One whose message cannot be had gets no answer of ours: Flower's node gives one when heartbeats have ceased.

    Any reply before the node holds the whole message would leave it one reply behind its messages for good.
    """

    runtime: str
    token: str
    patience: float
    alive: Path

    def answer(self, app: App, allowed: Collection[str], log: Callable[[str], None]) -> None:
        with (
            runtime_client(self.runtime, _COMPONENT, roots=None, token=self.token) as heart,
            heart_beats(heart, self.alive.touch),
            runtime_client(self.runtime, _COMPONENT, roots=None, token=self.token, patience=self.patience) as client,
        ):
            message, context, _, bundle = pull_task_input(client)
            sha256 = hashlib.sha256(bundle.content).hexdigest()
            if any(hmac.compare_digest(sha256, one) for one in allowed):
                reply = _reply(app, message, context, log)
            else:
                log(f"the coordinator's bundle {sha256} is not the one installed here; both sides must run the same version")
                reply = Message(Error(ErrorCode.INVALID_FAB, ""), reply_to=message)
            push_message(client, reply, context)
            status = SubStatus.FAILED if reply.has_error() else SubStatus.COMPLETED
            client.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=""))


def _reply(app: App, message: Message, context: Context, log: Callable[[str], None]) -> Message:
    try:
        return app(message, context)
    except Exception as error:
        log(f"{message.metadata.message_type} failed with {type(error).__name__}")
        return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, ""), reply_to=message)


class _LoopClock:
    """Stands for the module `time` in Flower's main loop, which uses it to sleep and for nothing else."""

    def __init__(self, idle_seconds: float, alive: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_seconds, self._alive, self._clock = idle_seconds, alive, clock
        self._next_object = math.inf  # when the next object of the reply that is sent must be there

    def sleep(self, seconds: float) -> None:
        """Raises TimeoutError where a reply's next object does not come from the node: Flower then drops that reply alone."""
        self._alive.touch()
        if self._clock() > self._next_object:
            raise TimeoutError(f"the node gave no further object of its reply within {OBJECT_SECONDS} s")
        time.sleep(min(seconds, self._idle_seconds))

    def pushing(self, push: Callable[..., None]) -> Callable[..., None]:
        """`push` of objects that the node hands over while it is under way, none of them later than it may be."""

        def watched(contents: Iterable[tuple[str, bytes]], push_object_fn: Callable[[str, bytes], None]) -> None:
            try:
                push(self._in_time(contents), push_object_fn)
            finally:
                self._next_object = math.inf

        return watched

    def _in_time(self, contents: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
        self._next_object = self._clock() + OBJECT_SECONDS
        for content in contents:
            self._next_object = self._clock() + OBJECT_SECONDS
            yield content


def _returning(own: Path) -> type[FleetHttpClient]:
    """Flower's client, which logs the node off before it logs on: one that was killed still counts as connected.

    Args:
        own: file with Flower's id of the node from the last time. The SuperLink takes the id from the holder of the node's key alone.
    """

    class Returning(FleetHttpClient):
        def ActivateNode(self, request: ActivateNodeRequest) -> ActivateNodeResponse:  # noqa: N802 (Flower's name)
            if own.exists():
                with suppress(httpx.HTTPStatusError, ValueError):  # it was not connected, or the file is not ours
                    self.DeactivateNode(DeactivateNodeRequest(node_id=int(own.read_text())))
            response: ActivateNodeResponse = super().ActivateNode(request)
            write_file(own, str(response.node_id).encode())
            return response

    return Returning


def main(arguments: list[str]) -> None:
    """Runs flwr's SuperNode in this process, which ends with it."""
    parser = argparse.ArgumentParser(prog="client.flower_node")
    parser.add_argument("--idle", type=float, required=True)
    parser.add_argument("--alive", type=Path, required=True)
    parser.add_argument("flower", nargs="+")
    own = parser.parse_args(arguments)
    start_client_internal.time = clock = _LoopClock(own.idle, own.alive)
    start_client_internal.push_object_contents_from_iterable = clock.pushing(push_object_contents_from_iterable)
    start_client_internal._pull_and_store_message = pull_or_forget(start_client_internal._pull_and_store_message)
    start_client_internal._push_messages = push_until_answered(start_client_internal._push_messages, clock.sleep)
    look_again_soon(start_client_internal)
    fleet_http_connection.FleetHttpClient = _returning(own.alive.with_suffix(".id"))
    sys.argv = ["flower-supernode", *own.flower]
    report = threading.excepthook

    def end(failed: threading.ExceptHookArgs) -> None:
        report(failed)
        os._exit(1)

    threading.excepthook = end
    flower_supernode()
    os._exit(1)  # only an error ends the main loop, and Flower's thread for the Runtime API would keep the process


if __name__ == "__main__":
    main(sys.argv[1:])
