"""The fence as an ASGI application: read the head, know the node, wait for its turn, pass bytes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import httpx

from coordinator.fence.head import Head, Refused, read_head
from coordinator.fence.identity import admitted_node
from coordinator.fence.limits import Limits, Turns
from coordinator.fence.upstream import Upstream, answer_headers

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AWAY = 503
# The SuperLink answers so when its database is locked; a SuperNode would stop asking and stay alive, after 503 it waits.
_FAULT = 500


class NodeGone(Exception):
    """The node closed its connection before its body had ended."""


class FenceApp:
    """ASGI application; `is_admitted` gets a key as OpenSSH writes it on each request, `now` gives Unix and `clock` monotonic seconds."""

    def __init__(
        self,
        upstream: Upstream,
        is_admitted: Callable[[str], bool],
        limits: Limits,
        *,
        now: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._upstream = upstream
        self._is_admitted = is_admitted
        self._limits = limits
        self._now = now
        self._turns = Turns(limits, clock)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request, or the start and end of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        try:
            head = read_head(scope)
            node = admitted_node(head.headers, self._is_admitted, self._now())
            with self._turns.turn(node):
                await self._pass_on(head, receive, send)
        except Refused as refused:
            await _refuse(send, refused.status)
        except NodeGone:
            return

    async def _pass_on(self, head: Head, receive: Receive, send: Send) -> None:
        """Passes a request and its answer on; an answer that has begun and cannot end closes the connection."""
        begun = False
        try:
            async with asyncio.timeout(self._limits.seconds(head.length)) as deadline:
                async with self._upstream.answer(head, _body(receive)) as answer:
                    if answer.status_code == _FAULT:
                        raise Refused(AWAY)
                    length = int(answer.headers.get("content-length", 0))
                    deadline.reschedule(asyncio.get_running_loop().time() + self._limits.seconds(length))
                    begun = True
                    await _answer(send, answer)
        except (httpx.TransportError, TimeoutError):
            if not begun:
                raise Refused(AWAY) from None

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._upstream.close()
        await send({"type": "lifespan.shutdown.complete"})


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    """The body in the pieces in which it comes; h11 ends it at its Content-Length, on both sides."""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise NodeGone
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def _answer(send: Send, answer: httpx.Response) -> None:
    await send({"type": "http.response.start", "status": answer.status_code, "headers": answer_headers(answer)})
    async for piece in answer.aiter_raw():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(send: Send, status: int) -> None:
    """An empty answer. The connection ends with it: what follows on it may be a body that nobody read."""
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
