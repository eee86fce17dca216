"""Named byte strings as one byte string, in exactly one way: names sorted, everything length-prefixed."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from protocols.errors import ConsortiumError


class PackError(ConsortiumError):
    """Bytes that `pack` did not make."""


def pack(parts: Mapping[str, bytes]) -> bytes:
    """Each part as name length, name (UTF-8), content length (4 bytes, little-endian) and content."""
    return b"".join(_sized(name.encode()) + _sized(parts[name]) for name in sorted(parts))


def unpack(data: bytes) -> dict[str, bytes]:
    """The inverse of `pack`; only bytes that `pack` makes are accepted.

    Raises:
        PackError: truncated, unsorted or repeated names, trailing bytes.
    """
    fields = _fields(data)
    try:
        names = [name.decode() for name in fields[::2]]
    except UnicodeDecodeError:
        raise PackError("a message names a field in bytes that are not text; both sides must run the same version") from None
    # Lengths leave no choice and names are unique and in order, so `pack` makes these bytes and no others.
    if len(fields) % 2 or any(name >= following for name, following in pairwise(names)):
        raise PackError("a message is not in the one form that is allowed; both sides must run the same version")
    return dict(zip(names, fields[1::2], strict=True))


def _fields(data: bytes) -> list[bytes]:
    fields, place = [], 0
    while place < len(data):
        start = place + 4
        place = start + int.from_bytes(data[place:start], "little")
        if len(data) < max(start, place):
            raise PackError("a message ends in the middle of a field; both sides must run the same version")
        fields.append(data[start:place])
    return fields


def _sized(content: bytes) -> bytes:
    return len(content).to_bytes(4, "little") + content
