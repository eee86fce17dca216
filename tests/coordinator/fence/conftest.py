"""A fence before a server that notes what reaches it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from coordinator.fence.limits import Limits
from coordinator.fence.serving import Fence
from tests.coordinator.fence.loopback import Behind, Node, send, write_certificate


@dataclass
class Site:
    """A fence, what is behind it, a node that is admitted, and whom else the fence admits."""

    fence: Fence
    behind: Behind
    node: Node
    certificate: Path
    admitted: set[str] = field(default_factory=set)

    def send(self, data: bytes, silence: float = 0.5) -> bytes:
        return send(self.fence.port, self.certificate, data, silence)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def open_site(certificate: tuple[Path, Path]) -> Iterator[Callable[..., Site]]:
    """Opens fences; `now`, `clock` and limits may be given. All are closed at the end."""
    sites: list[Site] = []

    def opened(now: Callable[[], float] | None = None, clock: Callable[[], float] | None = None, **limits: Any) -> Site:
        behind, node, clocks = Behind(*certificate), Node(), {"now": now, "clock": clock}
        admitted = {node.public}
        files = {"certificate": certificate[0], "key": certificate[1], "ca": certificate[0]}
        given = {name: clock for name, clock in clocks.items() if clock}
        terms = Limits(**limits)
        fence = Fence("127.0.0.1", 0, superlink=behind.address, is_admitted=admitted.__contains__, limits=terms, **files, **given)  # type: ignore[arg-type]
        sites.append(Site(fence, behind, node, certificate[0], admitted))
        fence.start()
        return sites[-1]

    yield opened
    for site in sites:
        site.fence.stop()
        site.behind.close()


@pytest.fixture
def site(open_site: Callable[..., Site]) -> Site:
    return open_site()
