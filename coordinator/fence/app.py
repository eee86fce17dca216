"""The fence as an ASGI application: read the head, know the node, wait for its turn, pass bytes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx

from coordinator.fence.head import Head, Refused, read_head
from coordinator.fence.holding import Holding, NodeGone, request_body
from coordinator.fence.identity import admitted_node
from coordinator.fence.limits import Limits, Turns
from coordinator.fence.upstream import Upstream, answer_headers

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AWAY = 503
# The SuperLink answers so when its database is locked; a SuperNode would stop asking and stay alive, after 503 it waits.
_FAULT = 500


class FenceApp:
    """ASGI application; `is_admitted` gets a key as OpenSSH writes it on each request, `now` gives Unix and `clock` monotonic seconds.

    `closing` says whether the server is about to end.
    """

    def __init__(
        self,
        upstream: Upstream,
        is_admitted: Callable[[str], bool],
        limits: Limits,
        *,
        now: Callable[[], float],
        clock: Callable[[], float],
        closing: Callable[[], bool],
    ) -> None:
        self._upstream = upstream
        self._is_admitted = is_admitted
        self._limits = limits
        self._now = now
        self._turns = Turns(limits, clock)
        self._holding = Holding(upstream, limits, clock, closing)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request, or the start and end of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        try:
            head = read_head(scope)
            with self._turns.turn(self._node(head)):
                await self._pass_on(head, receive, send)
        except Refused as refused:
            await _refuse(send, refused.status)
        except NodeGone:
            return

    async def _pass_on(self, head: Head, receive: Receive, send: Send) -> None:
        """Passes a request and its answer on; an answer that has begun and cannot end closes the connection."""
        begun = False
        try:
            async with asyncio.timeout(self._limits.seconds(head.length)) as deadline, self._answer(head, receive) as answer:
                if answer.status_code == _FAULT:
                    raise Refused(AWAY)
                length = int(answer.headers.get("content-length", 0))
                deadline.reschedule(asyncio.get_running_loop().time() + self._limits.seconds(length))
                begun = True
                await _answer(send, answer)
        except (httpx.TransportError, TimeoutError):
            if not begun:
                raise Refused(AWAY) from None

    def _answer(self, head: Head, receive: Receive) -> AbstractAsyncContextManager[httpx.Response]:
        if self._holding.takes(head):
            return self._holding.answer(head, receive, lambda: self._node(head))
        return self._upstream.answer(head, request_body(receive))

    def _node(self, head: Head) -> str:
        return admitted_node(head.headers, self._is_admitted, self._now())

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._upstream.close()
        await send({"type": "lifespan.shutdown.complete"})


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
