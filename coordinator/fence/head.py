"""The head of one request: read by exact lists, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.fence.routes import OPTIONAL_HEADERS, REQUIRED_HEADERS, ROUTES


class Refused(Exception):
    """A request that does not pass; `status` is all that its sender is told."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """A request that may pass if its node may: the path, the body's length in bytes, and the headers to pass on."""

    path: bytes
    length: int
    headers: Mapping[bytes, bytes]


def read_head(scope: Mapping[str, Any]) -> Head:
    """Reads an ASGI scope; the path and the headers of the result are on the lists of `routes`.

    A body must be announced by one Content-Length: flwr's client sends nothing else, and without Transfer-Encoding there
    are no two opinions on where a body ends.

    Raises:
        Refused: 404 for another method or path, 413 for a body that is too long, 400 for any other difference.
    """
    path: bytes = scope["raw_path"]
    longest = ROUTES.get((scope["method"], path))
    if longest is None:
        raise Refused(404)
    if scope["query_string"] or scope["http_version"] != "1.1":
        raise Refused(400)
    sent: list[tuple[bytes, bytes]] = list(scope["headers"])
    _check_connection(sent)
    headers = _listed(sent)
    length = int(headers[b"content-length"])
    if length > longest:
        raise Refused(413)
    return Head(path, length, headers)


def _check_connection(sent: list[tuple[bytes, bytes]]) -> None:
    names = {name for name, _ in sent}
    connection = [value.lower() for name, value in sent if name == b"connection"]
    if names & {b"transfer-encoding", b"upgrade"} or connection not in ([], [b"keep-alive"], [b"close"]):
        raise Refused(400)


def _listed(sent: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    forms = {**REQUIRED_HEADERS, **OPTIONAL_HEADERS}
    kept = [(name, value) for name, value in sent if name in forms]
    headers = dict(kept)
    well_formed = all(forms[name].fullmatch(value) for name, value in kept)
    if len(headers) != len(kept) or REQUIRED_HEADERS.keys() - headers.keys() or not well_formed:
        raise Refused(400)
    return headers
