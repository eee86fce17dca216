"""A node that has no message waits at the fence for its next one: stock SuperNodes look every 3 s, and a round is many messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx

from coordinator.fence.head import Head
from coordinator.fence.limits import Limits
from coordinator.fence.routes import PULL_MESSAGES
from coordinator.fence.upstream import Upstream

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_LONGEST_BODY = 1024  # bytes; a SuperNode's question has about 20
_FIRST_PAUSE = 0.25  # seconds
_PAUSE_SHARE = 0.2  # of the time waited so far: who waits long is not waited for often


class NodeGone(Exception):
    """The node closed its connection before it was answered."""


class Holding:
    """Asks the SuperLink again while its answer is that there is nothing, for at most `limits.hold_seconds`.

    `closing` says whether the fence is about to end, which ends all waiting.
    """

    def __init__(self, upstream: Upstream, limits: Limits, clock: Callable[[], float], closing: Callable[[], bool]) -> None:
        self._upstream = upstream
        self._limits = limits
        self._clock = clock
        self._closing = closing
        self._held = 0

    def takes(self, head: Head) -> bool:
        """Whether this request may be held: only questions for messages, and of so many nodes at once that connections are left."""
        return head.path == PULL_MESSAGES and head.length <= _LONGEST_BODY and self._held < self._limits.held

    @asynccontextmanager
    async def answer(self, head: Head, receive: Receive, check: Callable[[], object]) -> AsyncIterator[httpx.Response]:
        """The first answer that says something, or the last one; `check` is asked before each question and raises if it may not pass.

        Raises:
            NodeGone: nobody is there any more; the SuperLink, which hands a message out once, was not asked again.
        """
        body = b"".join([piece async for piece in request_body(receive)])
        gone = asyncio.ensure_future(receive())
        self._held += 1
        try:
            async with AsyncExitStack() as opened:
                yield await self._last(head, body, gone, check, opened)
        finally:
            self._held -= 1
            gone.cancel()

    async def _last(
        self, head: Head, body: bytes, gone: asyncio.Future[Any], check: Callable[[], object], opened: AsyncExitStack
    ) -> httpx.Response:
        """The answer that goes to the node, still open; those before it are closed."""
        begun = self._clock()
        while True:
            answer = await opened.enter_async_context(self._upstream.answer(head, _whole(body)))
            waited = self._clock() - begun
            if not _says_nothing(answer) or waited >= self._limits.hold_seconds or self._closing():
                return answer
            await opened.aclose()
            await _pause(gone, max(_FIRST_PAUSE, _PAUSE_SHARE * waited))
            check()


async def request_body(receive: Receive) -> AsyncIterator[bytes]:
    """The body in the pieces in which it comes; h11 ends it at its Content-Length, on both sides."""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise NodeGone
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _says_nothing(answer: httpx.Response) -> bool:
    """An empty protobuf message has no bytes."""
    return answer.status_code == httpx.codes.OK and answer.headers.get("content-length") == "0"


async def _pause(gone: asyncio.Future[MutableMapping[str, Any]], seconds: float) -> None:
    done, _ = await asyncio.wait({gone}, timeout=seconds)
    if done:
        raise NodeGone
