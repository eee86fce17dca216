"""Messages as bytes in exactly one form: frozen dataclasses of integers, strings, bytes, tuples, mappings and other messages."""

from __future__ import annotations

import hashlib
import re
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Self, get_args, get_origin, get_type_hints

from protocols.errors import MalformedMessage
from protocols.pack import PackError, pack, unpack

_NUMBER = re.compile(rb"0|[1-9][0-9]{0,18}")


class Message:
    """Base of every message and stored state; subclasses are frozen dataclasses."""

    def to_bytes(self) -> bytes:
        return _encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads what `to_bytes` wrote, and nothing else.

        Raises:
            MalformedMessage: an unknown, missing or repeated field, a wrong type, trailing bytes.
        """
        try:
            message: Self = _decode(cls, data)
        except (PackError, UnicodeDecodeError) as error:
            raise MalformedMessage(f"{cls.__name__} is malformed; both sides must run the same version") from error
        if message.to_bytes() != data:
            raise MalformedMessage(f"{cls.__name__} is not in its one allowed form; both sides must run the same version")
        return message

    @property
    def hash(self) -> bytes:
        """SHA-256 over the message's kind and bytes."""
        return hashlib.sha256(f"consortium {type(self).__name__} 1\0".encode() + self.to_bytes()).digest()


def _encode(value: Any) -> bytes:
    if is_dataclass(value):
        return pack({f.name: _encode(getattr(value, f.name)) for f in fields(value) if "local" not in f.metadata})
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int):
        return str(value).encode()
    if isinstance(value, Mapping):
        return pack({key: _encode(content) for key, content in value.items()})
    return pack({f"{index:09d}": _encode(content) for index, content in enumerate(value)})


def _decode(kind: Any, data: bytes) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is bytes:
        return data
    if kind is str:
        return data.decode()
    if kind is int:
        return _number(data)
    if origin is tuple:
        return tuple(_decode(arguments[0], content) for content in unpack(data).values())
    if origin is not None and issubclass(origin, Mapping):
        return types.MappingProxyType({key: _decode(arguments[1], content) for key, content in unpack(data).items()})
    return _decode_message(kind, unpack(data))


def _decode_message(kind: Any, parts: Mapping[str, bytes]) -> Any:
    hints = get_type_hints(kind)
    names = {f.name for f in fields(kind) if "local" not in f.metadata}
    if parts.keys() != names:
        odd = ", ".join(sorted(parts.keys() ^ names))
        raise MalformedMessage(f"{kind.__name__} has unknown or missing fields ({odd}); both sides must run the same version")
    return kind(**{name: _decode(hints[name], content) for name, content in parts.items()})


def _number(data: bytes) -> int:
    if not _NUMBER.fullmatch(data):
        raise MalformedMessage("a number is not written as plain decimal digits; both sides must run the same version")
    return int(data)
