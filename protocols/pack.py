"""Named byte strings as one byte string, in exactly one way: names sorted, everything length-prefixed."""

from __future__ import annotations

from collections.abc import Mapping

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
    fields, rest = [], memoryview(data)
    while rest:
        size = int.from_bytes(rest[:4], "little")
        if len(rest) < 4 + size:
            raise PackError("a message ends in the middle of a field; both sides must run the same version")
        fields.append(bytes(rest[4 : 4 + size]))
        rest = rest[4 + size :]
    parts = dict(zip((name.decode(errors="replace") for name in fields[::2]), fields[1::2], strict=False))
    if pack(parts) != data:
        raise PackError("a message is not in the one form that is allowed; both sides must run the same version")
    return parts


def _sized(content: bytes) -> bytes:
    return len(content).to_bytes(4, "little") + content
