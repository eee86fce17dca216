"""Where the coordinator touches flwr's private parts: starting a SuperLink, its nodes, and driving a run (`flower_grid`)."""

from __future__ import annotations

import fcntl
import os
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from flwr.common.constant import SubStatus
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, StartRunRequest, StopRunRequest, UnregisterNodeRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import NodeStatus, TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from coordinator.errors import NodeKeyError
from coordinator.flower_grid import LinkGrid
from protocols.bundle import Bundle
from protocols.errors import FlowerAway, FlowerRefused
from protocols.flower import heart_beats, runtime_client, translated

_COMPONENT = "flwr-serverapp"
_MAIN = "from flwr.superlink.cli import flower_superlink; flower_superlink()"


@dataclass(frozen=True, slots=True)
class SuperLinkFiles:
    """What a SuperLink reads and writes; the secret is shared with those who claim tasks, and has mode 0600."""

    database: Path
    secret: Path
    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class LinkNode:
    """A registered node: Flower's id, its public key as PEM, the name that it was registered under, and whether it is connected.

    `connection` is another text whenever its SuperNode was started again.
    """

    node: int
    public_key: str
    name: str
    online: bool
    connection: str


def superlink_command(files: SuperLinkFiles, port: int) -> list[str]:
    """Stock `flower-superlink` on loopback alone: TLS, registered nodes only, and nothing of a run executed in its process."""
    return [
        sys.executable, "-P", "-c", _MAIN, "--host", "127.0.0.1", "--port", str(port),
        "--ssl-ca-certfile", str(files.authority), "--ssl-certfile", str(files.certificate), "--ssl-keyfile", str(files.key),
        "--isolation", "process", "--superexec-auth-secret-file", str(files.secret), "--enable-supernode-auth",
        "--disable-runtime-dependency-installation", "--database", str(files.database),
    ]  # fmt: skip


class FlowerLink:
    """A running SuperLink, asked over its Control and Runtime APIs; safe to keep while the SuperLink restarts."""

    def __init__(self, address: str, roots: bytes, secret: bytes, patience: float = 120.0, poll_seconds: float = 0.1) -> None:
        """Opens nothing yet.

        Args:
            address: host and port; the certificate names the host.
            roots: PEM of the authority.
            secret: the content of `SuperLinkFiles.secret`.
            patience: seconds for which a run waits for a SuperLink that is away.
            poll_seconds: pause between attempts to claim a run's task.
        """
        self._address, self._roots, self._secret = address, roots, secret
        self._patience, self._poll_seconds = patience, poll_seconds
        self._peer = f"the SuperLink at {address}"

    def healthy(self) -> bool:
        """Whether it answers now."""
        trust = ssl.create_default_context(cadata=self._roots.decode("ascii"))
        try:
            return httpx.get(f"https://{self._address}/health", verify=trust, timeout=5.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def nodes(self) -> tuple[LinkNode, ...]:
        """Registered nodes, by Flower's id. FlowerAway if the SuperLink does not answer; so do all that follow."""
        with self._control() as control:
            found = control.ListNodes(ListNodesRequest()).nodes_info
        kept = [one for one in found if one.status != NodeStatus.UNREGISTERED]
        return tuple(
            LinkNode(one.node_id, one.public_key.decode("ascii"), one.name, one.status == NodeStatus.ONLINE, one.last_activated_at)
            for one in sorted(kept, key=lambda one: int(one.node_id))
        )

    def connected(self) -> dict[int, str]:
        """Connections of the nodes that are connected now, by Flower's id."""
        return {node.node: node.connection for node in self.nodes() if node.online}

    def register_node(self, public_key: str, name: str = "") -> int:
        """Lets the holder of a NIST curve key (PEM or OpenSSH) connect; the same id again for a key that is registered.

        Raises:
            NodeKeyError: that is no such key.
            FlowerRefused: the SuperLink does not take it.
        """
        key = node_key_pem(public_key)
        for node in self.nodes():
            if node.public_key == key:
                return node.node
        with self._control() as control:
            return int(control.RegisterNode(RegisterNodeRequest(public_key=key.encode("ascii"), name=name or None)).node_id)

    def unregister_node(self, public_key: str) -> bool:
        """Shuts the holder of a key out at once; False if it was not registered. Flower never takes the same key again."""
        key = node_key_pem(public_key)
        found = [node.node for node in self.nodes() if node.public_key == key]
        for node in found:
            with self._control() as control:
                control.UnregisterNode(UnregisterNodeRequest(node_id=node))
        return bool(found)

    def start_run(self, bundle: Bundle) -> int:
        """Flower's id of a new run, whose task somebody has to claim; `driving` does both."""
        request = StartRunRequest(fab=fab_to_proto(Fab(bundle.sha256, bundle.content, {})))
        with self._control() as control:
            run = int(control.StartRun(request).run_id)
        if not run:
            raise FlowerRefused(f"{self._peer} does not take the bundle {bundle.sha256}; see its log")
        return run

    def stop_run(self, run: int) -> bool:
        """Ends a run in Flower; False if there is none or it has ended. An institution's handler under way is not interrupted."""
        try:
            with self._control() as control:
                return bool(control.StopRun(StopRunRequest(run_id=run)).success)
        except FlowerRefused:
            return False

    @contextmanager
    def driving(self, bundle: Bundle, claims: Path) -> Iterator[LinkGrid]:
        """Starts a run, claims its task and keeps it alive; the grid's `run.run_id` is Flower's number for it.

        Leaving ends the run in Flower. A process that dies instead loses it after a minute without heartbeats.

        Args:
            bundle: `protocols.bundle.installed_bundle`.
            claims: a lock file; everyone who drives runs of this SuperLink names the same one.

        Raises:
            FlowerAway: the SuperLink does not answer, or later was away for `patience` seconds.
            FlowerRefused: it does not take the bundle, or has given the run up.
        """
        with _locked(claims):
            token = self._claim(self.start_run(bundle))
        grid = LinkGrid(self._address, self._roots, token, self._patience)
        status = SubStatus.FAILED
        with runtime_client(self._address, _COMPONENT, roots=self._roots, token=token) as heart, heart_beats(heart):
            try:
                grid.begin()
                yield grid
                status = SubStatus.COMPLETED
            finally:
                grid.end(status)

    def _claim(self, run: int) -> str:
        """The token of the run's task. The server hands out the oldest task that nobody claimed, so others are of dead processes."""
        request = AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
        end = time.monotonic() + self._patience
        with (
            translated(self._peer),
            runtime_client(self._address, "SuperExec", roots=self._roots, secret=self._secret, patience=self._patience) as runtime,
        ):
            while time.monotonic() < end:
                found = runtime.AcquireTask(request)
                if found.token and found.task.run_id == run:
                    return str(found.token)
                if found.token:
                    self.stop_run(found.task.run_id)
                time.sleep(self._poll_seconds)
        raise FlowerAway(f"{self._peer} has no task for the run that it started; see its log")

    @contextmanager
    def _control(self) -> Iterator[ControlHttpClient]:
        with (
            translated(self._peer),
            ControlHttpClient.from_server_address(
                server_address=self._address,
                insecure=False,
                root_certificates=self._roots,
                interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
            ) as control,
        ):
            yield control


def node_key_pem(public_key: str) -> str:
    """A node's public key in the one form that Flower compares."""
    data = public_key.strip().encode()
    load: Callable[[bytes], object] = serialization.load_pem_public_key if data.startswith(b"-----") else serialization.load_ssh_public_key
    try:
        key = load(data)
        form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return str(key.public_bytes(*form).decode("ascii"))  # type: ignore[attr-defined]
    except (ValueError, UnsupportedAlgorithm):
        raise NodeKeyError("a node's key is neither a PEM nor an OpenSSH public key; let the institution send it again") from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
