"""HTTP/1.1 without leniency: what h11 would mend silently is refused, and a head that does not come ends the connection.

h11 is taken because it rejects what is malformed and gives the target as it was sent (httptools takes an absolute target
apart). What it accepts all the same: folded headers, lines that end in a bare LF, a Content-Length given twice, and a long
head that comes at once.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_FOLDED_OR_BARE = re.compile(rb"\n[ \t]|(?<!\r)\n|\r[^\n]")
_NOT_A_LENGTH = re.compile(rb"\ncontent-length[ \t]*:(?![ \t]*[0-9]*[ \t]*(?:\r|\Z))", re.IGNORECASE)
_SINGLE = re.compile(rb"\n(content-length|transfer-encoding|host)[ \t]*:", re.IGNORECASE)
_HEAD_BYTES = 16 * 1024


class StrictConnection(h11.Connection):
    """An h11 connection that looks at each head as it was sent."""

    def next_event(self) -> Any:
        """The next event; h11.RemoteProtocolError for a head that h11 would mend."""
        if self.their_state is h11.IDLE and _is_loose(self.trailing_data[0]):
            raise h11.RemoteProtocolError("malformed head")
        return super().next_event()


def _is_loose(received: bytes) -> bool:
    end = received.find(b"\r\n\r\n")
    head = received if end < 0 else received[:end]
    single = [name.lower() for name in _SINGLE.findall(head)]
    loose = _FOLDED_OR_BARE.search(head) or _NOT_A_LENGTH.search(head)
    return loose is not None or len(set(single)) != len(single) or len(head) > _HEAD_BYTES


class StrictProtocol(H11Protocol):
    """uvicorn's protocol over a strict connection; a head must be complete within the keep-alive timeout."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = StrictConnection(h11.SERVER, _HEAD_BYTES)
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Takes bytes; the first ones of a head begin its time, the last ones end it."""
        super().data_received(data)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the wait."""
        super().connection_lost(exc)
        self._stop_waiting()

    def send_400_response(self, msg: str) -> None:
        """Refuses what is not HTTP/1.1, without a word."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            headers = [(b"content-length", b"0"), (b"connection", b"close")]
            for event in (h11.Response(status_code=400, headers=headers, reason=b"Bad Request"), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")  # a response without an end would be in the way of a shutdown
        self.transport.close()

    def _wait_for_head(self) -> None:
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._stop_waiting()
        elif self._late is None:
            self._late = self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
