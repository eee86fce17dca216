"""A real SuperLink and two SuperNodes over TLS: questions by way of Exchange, refused bundles, and a SuperLink that is killed."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, no_object_id_recompute
from flwr.supernode.fleet_http_connection import http_request_response

from client.flower_node import SuperNodeFiles, supernode_command
from coordinator.errors import NodeKeyError
from coordinator.exchange import Answer, Exchange
from coordinator.flower_link import FlowerLink, SuperLinkFiles, superlink_command
from protocols.bundle import Bundle, installed_bundle
from protocols.errors import FlowerAway, FlowerRefused
from protocols.flower import environment as flower_environment
from protocols.flower import runtime_client
from protocols.wire import Parcel, to_record
from tests.consortium.command_line import environment
from tests.deployment.answering_node import SECRETS
from tests.deployment.processes import Authority, Started, free_port, make_authority, make_node_key, wait_until

pytestmark = pytest.mark.slow
NAMES = ("north", "south")


@dataclass
class Deployment:
    """A SuperLink with its nodes, all of one folder."""

    folder: Path
    authority: Authority
    port: int
    superlink: Started | None = None
    runtimes: dict[str, str] = field(default_factory=dict)

    @property
    def claims(self) -> Path:
        return self.folder / "claims.lock"

    def link(self, patience: float = 60.0, roots: bytes | None = None) -> FlowerLink:
        own = roots or self.authority.authority.read_bytes()
        return FlowerLink(f"127.0.0.1:{self.port}", own, (self.folder / "secret").read_bytes(), patience)

    def start_superlink(self, without: Sequence[str] = ()) -> None:
        pki = self.authority
        files = SuperLinkFiles(self.folder / "state.db", self.folder / "secret", pki.authority, pki.certificate, pki.key)
        env = flower_environment(environment(), self.folder / "flower")
        command = [part for part in superlink_command(files, self.port) if part not in without]
        self.superlink = Started(command, self.folder / "superlink.log", env)
        wait_until(self.link().healthy, "the SuperLink")

    def stop_superlink(self) -> None:
        if self.superlink is not None:
            self.superlink.stop()

    def start_node(self, name: str, stack: ExitStack) -> Started:
        port = free_port()
        self.link().register_node(make_node_key(self.folder / f"{name}.key"), name)
        files = SuperNodeFiles(self.authority.authority, self.folder / f"{name}.key", self.folder / "secret", self.folder / f"{name}.alive")
        env = flower_environment(environment(), self.folder / f"flower-{name}")
        command = supernode_command(f"127.0.0.1:{self.port}", files, port, idle_seconds=0.2)
        node = Started(command, self.folder / f"{name}.log", env)
        stack.callback(node.stop)
        self.runtimes[name] = f"127.0.0.1:{port}"
        own = [sys.executable, "-m", "tests.deployment.answering_node", name, self.runtimes[name]]
        runner = Started([*own, str(self.folder / "secret"), str(self.folder / f"{name}.claims")], self.folder / f"{name}-runner.log")
        stack.callback(runner.stop)
        return node


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    (folder / "secret").write_bytes(os.urandom(32))
    made = Deployment(folder, make_authority(folder / "tls"), free_port())
    with ExitStack() as stack:
        stack.callback(made.stop_superlink)
        made.start_superlink()
        for name in NAMES:
            made.start_node(name, stack)
        wait_until(lambda: sum(node.online for node in made.link().nodes()) == len(NAMES), "both nodes", 60)
        yield made


@dataclass
class HalfANode:
    """A SuperNode's connection without its process."""

    receive: Callable[[], tuple[Message, ObjectTree] | None]
    send: Callable[[Message, ObjectTree, float], tuple[set[str], str]]
    push_object: Callable[[int, str, str, bytes], None]

    def tell_of_a_reply(self, envelope: bytes) -> Callable[[], None]:
        """Answers the next message, without the answer's objects; what it returns pushes them."""
        received: list[Message] = []

        def look() -> bool:
            received.extend(found[0] for found in [self.receive()] if found is not None)
            return bool(received)

        wait_until(look, "a message")
        request = received[0]
        reply = Message(to_record(Parcel(envelope)), reply_to=request)
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            objects = {one: value.deflate() for one, value in get_all_nested_objects(reply).items()}
            missing, session = self.send(reply, get_object_tree(reply), 0.0)

        def push() -> None:
            for one in missing:
                self.push_object(request.metadata.run_id, session, one, objects[one])

        return push


@contextmanager
def half_a_node(deployment: Deployment, key: Path) -> Iterator[HalfANode]:
    private = serialization.load_ssh_private_key(key.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    roots, pair = deployment.authority.authority.read_bytes(), (private, private.public_key())
    with http_request_response(f"127.0.0.1:{deployment.port}", False, roots, pair) as (_, receive, send, _, _, _, push_object, _):
        yield HalfANode(receive, send, push_object)


def ask(exchange: Exchange, envelope: bytes, deadline: float = 30.0) -> list[Answer]:
    parcel = Parcel(envelope, {"values": np.arange(5, dtype=np.uint32)})
    return list(exchange.ask("query.hello", exchange.nodes(), lambda _: parcel, "round", deadline))


def envelopes(answers: list[Answer]) -> list[bytes]:
    return sorted(answer.parcel.envelope for answer in answers if answer.parcel is not None)


def test_nodes_answer_parcels_and_their_failures_say_nothing(deployment: Deployment) -> None:
    with deployment.link().driving(installed_bundle(), deployment.claims) as grid:
        exchange = Exchange(grid)
        answers = ask(exchange, b"hello")
        assert envelopes(answers) == [b"north:hello", b"south:hello"]
        assert all(answer.parcel is not None and answer.parcel.arrays["values"].tolist() == [0, 2, 4, 6, 8] for answer in answers)
        assert {answer.error for answer in ask(exchange, b"fail")} == {"the node failed (Flower error 2)"}
        assert envelopes(ask(exchange, b"again")) == [b"north:again", b"south:again"]
    assert not deployment.link().stop_run(grid.run.run_id), "leaving the block has ended the run"
    traces = [path for path in deployment.folder.glob("*.log") if SECRETS in path.read_text(errors="replace")]
    assert not traces
    assert SECRETS.encode() not in (deployment.folder / "state.db").read_bytes()
    assert all((deployment.folder / f"{name}.{kind}").exists() for name in NAMES for kind in ("alive", "claims"))


def with_another_module(bundle: Bundle) -> Bundle:
    buffer = io.BytesIO(bundle.content)
    with zipfile.ZipFile(buffer, "a") as packed:
        packed.writestr("client/other.py", "raise SystemExit")
    return Bundle(buffer.getvalue(), hashlib.sha256(buffer.getvalue()).hexdigest())


def test_another_bundle_is_refused_without_detail(deployment: Deployment) -> None:
    with deployment.link().driving(with_another_module(installed_bundle()), deployment.claims) as grid:
        assert {answer.error for answer in ask(Exchange(grid), b"hello")} == {"the node failed (Flower error 7)"}
    assert all("is not the one installed here" in (deployment.folder / f"{name}-runner.log").read_text() for name in NAMES)
    assert not list(deployment.folder.glob("flower-*/apps/*")), "no node has unpacked a bundle"


def test_a_run_of_a_dead_process_does_not_stand_in_the_way(deployment: Deployment) -> None:
    left = deployment.link().start_run(installed_bundle())
    with deployment.link().driving(installed_bundle(), deployment.claims) as grid:
        assert grid.run.run_id != left
        assert envelopes(ask(Exchange(grid), b"hello")) == [b"north:hello", b"south:hello"]
    assert not deployment.link().stop_run(left)


def test_two_runs_at_once_get_their_own_answers(deployment: Deployment) -> None:
    link, bundle = deployment.link(), installed_bundle()
    with link.driving(bundle, deployment.claims) as one, link.driving(bundle, deployment.claims) as two:
        assert envelopes(ask(Exchange(two), b"two")) == [b"north:two", b"south:two"]
        assert envelopes(ask(Exchange(one), b"one")) == [b"north:one", b"south:one"]


def test_a_stopped_run_is_a_typed_error_and_no_signal(deployment: Deployment) -> None:
    with deployment.link().driving(installed_bundle(), deployment.claims) as grid:
        assert deployment.link().stop_run(grid.run.run_id)
        with pytest.raises(FlowerRefused):
            Exchange(grid).nodes()


def test_an_exchange_under_way_survives_a_killed_superlink(deployment: Deployment) -> None:
    answers: list[Answer] = []
    assert deployment.superlink is not None
    with deployment.link().driving(installed_bundle(), deployment.claims) as grid:
        exchange = Exchange(grid)
        asking = threading.Thread(target=lambda: answers.extend(ask(exchange, b"slow", 120.0)))
        asking.start()
        asking.join(1.5)
        deployment.superlink.kill()
        assert asking.is_alive()
        deployment.start_superlink()
        asking.join(120)
        assert envelopes(answers) == [b"north:slow", b"south:slow"]
        assert envelopes(ask(exchange, b"after")) == [b"north:after", b"south:after"]


def test_a_killed_supernode_is_back_at_once_and_asked_again(deployment: Deployment) -> None:
    link, answers = deployment.link(), list[Answer]()
    with ExitStack() as stack, link.driving(installed_bundle(), deployment.claims) as grid:
        node = deployment.start_node("far", stack)
        wait_until(lambda: len(link.connected()) == len(NAMES) + 1, "the third node")
        exchange = Exchange(grid, connected=link.connected)
        asking = threading.Thread(target=lambda: answers.extend(ask(exchange, b"slow", 120.0)))
        asking.start()
        asking.join(1.5)
        node.kill()
        stack.callback(node.again().stop)
        asking.join(45)  # Flower takes a killed node back after 60 s
        assert envelopes(answers) == [b"far:slow", b"north:slow", b"south:slow"]


@pytest.mark.parametrize("comes", [False, True])
def test_a_reply_without_its_objects_holds_up_nobody(deployment: Deployment, comes: bool) -> None:
    """A node that vanishes after it told of its reply costs the stage's deadline; one whose objects come late is heard."""
    link, answers = deployment.link(), list[Answer]()
    keys = deployment.folder / f"slow-{comes}.key"
    link.register_node(make_node_key(keys), f"slow-{comes}")
    with link.driving(installed_bundle(), deployment.claims) as grid, half_a_node(deployment, keys) as node:
        wait_until(lambda: len(link.connected()) == len(NAMES) + 1, "the third node")
        exchange = Exchange(grid, connected=link.connected)
        asking = threading.Thread(target=lambda: answers.extend(ask(exchange, b"hello", 30.0 if comes else 12.0)))
        asking.start()
        push = node.tell_of_a_reply(b"slow:hello")
        wait_until(lambda: len(grid._replies) == 1, "a look at the reply")
        if comes:
            push()
        asking.join(60)
        assert not asking.is_alive()
    assert envelopes(answers) == [b"north:hello", b"slow:hello", b"south:hello"][:: 1 if comes else 2]


def test_stolen_task_token(deployment: Deployment, tmp_path: Path) -> None:
    """The protected twin first: without the secret neither a run's task is had nor a node's; where no secret is asked for, both are."""
    roots, claim = deployment.authority.authority.read_bytes(), AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
    run = deployment.link().start_run(installed_bundle())
    for address, trust in ((f"127.0.0.1:{deployment.port}", roots), (deployment.runtimes["north"], None)):
        for secret in (b"", b"guessed"):
            with runtime_client(address, "SuperExec", roots=trust, secret=secret) as thief, pytest.raises(httpx.HTTPStatusError) as refused:
                thief.AcquireTask(claim)
            assert refused.value.response.status_code == 401
    assert deployment.link().stop_run(run)
    weak = Deployment(tmp_path, deployment.authority, free_port())
    (tmp_path / "secret").write_bytes(b"")
    with ExitStack() as stack:
        stack.callback(weak.stop_superlink)
        weak.start_superlink(without=("--superexec-auth-secret-file", str(tmp_path / "secret")))
        run = weak.link().start_run(installed_bundle())
        with runtime_client(f"127.0.0.1:{weak.port}", "SuperExec", roots=roots) as thief:
            stolen = thief.AcquireTask(claim)
        assert stolen.token and stolen.task.run_id == run


def test_a_superlink_that_stays_away_is_a_typed_error(deployment: Deployment) -> None:
    link = deployment.link(patience=1.0)
    with link.driving(installed_bundle(), deployment.claims) as grid:
        deployment.stop_superlink()
        with pytest.raises(FlowerAway, match="does not answer"):
            Exchange(grid).nodes()
    assert not link.healthy()
    with pytest.raises(FlowerAway, match="does not answer"):
        link.nodes()
    deployment.start_superlink()


def test_another_authority_is_no_superlink(deployment: Deployment, tmp_path: Path) -> None:
    stranger = deployment.link(roots=make_authority(tmp_path).authority.read_bytes())
    assert not stranger.healthy()
    with pytest.raises(FlowerAway):
        stranger.nodes()


def test_claiming_needs_the_secret(deployment: Deployment) -> None:
    pki = deployment.authority.authority.read_bytes()
    stranger = FlowerLink(f"127.0.0.1:{deployment.port}", pki, b"guessed", patience=5.0)
    with pytest.raises(FlowerRefused, match="401"), stranger.driving(installed_bundle(), deployment.claims):
        pytest.fail("a task was claimed without the secret")


def test_nodes_are_registered_once_and_for_all(deployment: Deployment, tmp_path: Path) -> None:
    link, key = deployment.link(), make_node_key(tmp_path / "key")
    node = link.register_node(key, "west")
    assert link.register_node(key, "west") == node
    (found,) = [one for one in link.nodes() if one.node == node]
    assert (found.public_key, found.name, found.online) == (key, "west", False)
    assert link.unregister_node(key)
    assert not link.unregister_node(key)
    with pytest.raises(FlowerRefused):
        link.register_node(key, "west")
    with pytest.raises(NodeKeyError):
        link.register_node("no key")


def test_a_node_that_is_shut_out_ends(deployment: Deployment) -> None:
    with ExitStack() as stack:
        node = deployment.start_node("east", stack)
        wait_until(lambda: any(one.name == "east" and one.online for one in deployment.link().nodes()), "the third node")
        (east,) = [one for one in deployment.link().nodes() if one.name == "east"]
        deployment.link().unregister_node(east.public_key)
        wait_until(lambda: node.process.poll() is not None, "the end of its process", 30)
