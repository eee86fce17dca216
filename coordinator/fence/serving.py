"""The fence as a thread of the coordinator's process: started, asked whether it runs, stopped."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import uvicorn

from coordinator.fence.app import FenceApp
from coordinator.fence.limits import Limits
from coordinator.fence.strict import StrictProtocol
from coordinator.fence.upstream import Upstream
from protocols.errors import ConsortiumError

_START_SECONDS = 10.0
_STOP_SECONDS = 5


class FenceError(ConsortiumError):
    """The fence cannot be opened."""


class Fence:
    """HTTPS at `host`:`port` (0 takes a free one) before the SuperLink at `superlink`, such as `https://127.0.0.1:9445`.

    `certificate` and `key` are the server's PEM files, `ca` the certificate that the SuperLink's is checked with.
    `is_admitted` is asked on every request, in the fence's thread, with a node's public key as
    OpenSSH writes it (one line without comment); it must answer at once and must not raise.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        certificate: Path,
        key: Path,
        superlink: str,
        ca: Path,
        is_admitted: Callable[[str], bool],
        limits: Limits | None = None,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = limits or Limits()
        self._address = (host, port)
        self._thread: threading.Thread | None = None
        upstream = Upstream(superlink, ca, limits.connections)
        app = FenceApp(upstream, is_admitted, limits, now=now, clock=clock, closing=lambda: self._server.should_exit)
        self._server = uvicorn.Server(_config(app, certificate, key, limits))

    @property
    def port(self) -> int:
        """The port that is listened on, once started."""
        return self._address[1]

    @property
    def running(self) -> bool:
        """Whether the fence answers; it ends by itself only on a fault."""
        return self._thread is not None and self._thread.is_alive() and self._server.started

    def start(self) -> None:
        """Listens; returns when requests are answered.

        Raises:
            FenceError: the address is taken, or the certificate files cannot be read.
        """
        listener = self._listen()
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="fence", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self.running:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                listener.close()
                raise FenceError(f"the fence at {self._address[0]}:{self.port} did not start; the log says why")
            time.sleep(0.01)

    def stop(self) -> None:
        """Lets exchanges under way end for a few seconds, then closes every connection."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(2 * _STOP_SECONDS)

    def __enter__(self) -> Fence:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _listen(self) -> socket.socket:
        try:
            self._server.config.load()
            listener = socket.create_server(self._address, backlog=128)
        except OSError as error:
            raise FenceError(f"the fence cannot listen at {self._address[0]}:{self.port}: {error}") from None
        self._address = (self._address[0], listener.getsockname()[1])
        return listener


def _config(app: FenceApp, certificate: Path, key: Path, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=StrictProtocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,  # no line a request: nothing of keys, addresses or bodies is logged
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=limits.connections,
        timeout_keep_alive=limits.head_seconds,
        timeout_graceful_shutdown=_STOP_SECONDS,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
