"""The SuperLink behind the fence: one request passed on and its answer, both as streams."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from coordinator.fence.head import Head
from coordinator.fence.routes import ANSWER_HEADERS

# Seconds; the SuperLink is on this machine, but may wait for its database.
_TIMEOUT = httpx.Timeout(connect=5, read=60, write=60, pool=5)


class Upstream:
    """Connections to the SuperLink at `address`, such as `https://127.0.0.1:9445`, trusted by the certificate file `ca`."""

    def __init__(self, address: str, ca: Path, connections: int) -> None:
        self._address = address.rstrip("/")
        # A bare transport: no cookies, redirects, proxies of the environment or headers of its own. Idle connections are
        # let go before the SuperLink does so after 5 s.
        self._transport = httpx.AsyncHTTPTransport(
            verify=ssl.create_default_context(cafile=str(ca)),
            trust_env=False,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=16, keepalive_expiry=2),
        )

    @asynccontextmanager
    async def answer(self, head: Head, body: AsyncIterator[bytes]) -> AsyncIterator[httpx.Response]:
        """The answer to a request with this head and body; httpx.TransportError when the SuperLink is away."""
        request = httpx.Request(
            "POST",
            self._address + head.path.decode("ascii"),
            headers=list(head.headers.items()),
            content=body,
            extensions={"timeout": _TIMEOUT.as_dict()},
        )
        response = await self._transport.handle_async_request(request)
        try:
            yield response
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Lets all connections go."""
        await self._transport.aclose()


def answer_headers(response: httpx.Response) -> list[tuple[bytes, bytes]]:
    """Those headers of the answer that a SuperNode reads."""
    return [(name.lower(), value) for name, value in response.headers.raw if name.lower() in ANSWER_HEADERS]
