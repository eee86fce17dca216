"""Rounds of stock Flower on this machine: FedAvg of a vector by `flwr run`, over TLS with registered nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from coordinator.flower_link import FlowerLink
from protocols.flower import environment as flower_environment
from tests.consortium.command_line import environment
from tests.deployment.processes import Authority, free_port, make_authority, make_node_key, running, wait_until

APP = Path(__file__).parent / "fedavg"
COMMANDS = Path(sys.executable).parent
_CONNECTION = """\
[superlink]
default = "here"
[superlink.here]
address = "127.0.0.1:{port}"
root-certificates = "{authority}"
insecure = false
"""


@dataclass(frozen=True, slots=True)
class Stock:
    """A SuperLink, and SuperNodes that start a process for each message."""

    folder: Path
    authority: Authority
    port: int

    def seconds_of_rounds(self, nodes: int, elements: int, rounds: int) -> list[float]:
        """From the end of a round to the end of the next."""
        times = self.folder / "times"
        config = f'elements={elements} rounds={rounds} nodes={nodes} times="{times}"'
        self._flwr("run", str(APP), "here", "--run-config", config)
        wait_until(lambda: times.exists() and len(times.read_text().splitlines()) == rounds, f"{rounds} rounds of FedAvg", 300)
        ends = [float(line) for line in times.read_text().splitlines()]
        return [later - earlier for earlier, later in pairwise(ends)]

    def start_superlink(self, stack: ExitStack) -> None:
        pki = self.authority
        tls = ["--ssl-ca-certfile", str(pki.authority), "--ssl-certfile", str(pki.certificate), "--ssl-keyfile", str(pki.key)]
        place = ["--host", "127.0.0.1", "--port", str(self.port), "--database", str(self.folder / "state.db")]
        fixed = ["--enable-supernode-auth", "--disable-runtime-dependency-installation"]
        stack.enter_context(
            running([_tool("flower-superlink"), *place, *tls, *fixed], self.folder / "superlink.log", self._env("superlink"))
        )
        link = FlowerLink(f"127.0.0.1:{self.port}", pki.authority.read_bytes(), b"")
        wait_until(link.healthy, "the SuperLink")

    def start_supernode(self, name: str, stack: ExitStack) -> None:
        key, link = self.folder / name, FlowerLink(f"127.0.0.1:{self.port}", self.authority.authority.read_bytes(), b"")
        link.register_node(make_node_key(key), name)
        peer = ["--superlink", f"127.0.0.1:{self.port}", "--root-certificates", str(self.authority.authority)]
        own = ["--auth-supernode-private-key", str(key), "--host", "127.0.0.1", "--port", str(free_port())]
        stack.enter_context(running([_tool("flower-supernode"), *peer, *own], self.folder / f"{name}.log", self._env(name)))

    def wait_for_nodes(self, count: int) -> None:
        link = FlowerLink(f"127.0.0.1:{self.port}", self.authority.authority.read_bytes(), b"")
        wait_until(lambda: sum(node.online for node in link.nodes()) == count, f"{count} SuperNodes")

    def _flwr(self, *arguments: str) -> None:
        home = self.folder / "flwr"
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text(_CONNECTION.format(port=self.port, authority=self.authority.authority))
        command = [_tool("flwr"), *arguments, "--format", "json"]
        done = subprocess.run(command, env=self._env("flwr"), capture_output=True, text=True, timeout=120, check=False)  # noqa: S603
        if done.returncode or not json.loads(done.stdout)["success"]:
            raise RuntimeError(done.stdout + done.stderr)

    def _env(self, name: str) -> dict[str, str]:
        around = environment(PATH=f"{COMMANDS}{os.pathsep}{os.environ['PATH']}")  # where Flower's processes look for one another
        return flower_environment(around, self.folder / name)


@contextmanager
def stock_flower(folder: Path, names: tuple[str, ...]) -> Iterator[Stock]:
    """Everything runs for as long as the block does."""
    made = Stock(folder, make_authority(folder / "tls"), free_port())
    with ExitStack() as stack:
        made.start_superlink(stack)
        for name in names:
            made.start_supernode(name, stack)
        made.wait_for_nodes(len(names))
        yield made


def _tool(name: str) -> str:
    return str(COMMANDS / name)
