"""Messages as bytes in exactly one form: frozen dataclasses of integers, strings, bytes, tuples, mappings and other messages."""

from __future__ import annotations

import hashlib
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import cache, cached_property
from typing import Any, Self, get_args, get_origin, get_type_hints

from protocols.errors import MalformedMessage
from protocols.pack import PackError, pack, unpack

_NUMBER = re.compile(rb"0|[1-9][0-9]{0,18}")


class Message:
    """Base of every message and stored state; subclasses are frozen dataclasses, so bytes and hash are computed once."""

    def to_bytes(self) -> bytes:
        return self._bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads what `to_bytes` wrote, and nothing else.

        Raises:
            MalformedMessage: an unknown, missing or repeated field, a wrong type, trailing bytes.
        """
        try:
            message: Self = _decode_message(cls, unpack(data))
        except (PackError, UnicodeDecodeError) as error:
            raise MalformedMessage(f"{cls.__name__} is malformed; both sides must run the same version") from error
        if message.to_bytes() != data:
            raise MalformedMessage(f"{cls.__name__} is not in its one allowed form; both sides must run the same version")
        return message

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 over the message's kind and bytes."""
        return hashlib.sha256(f"consortium {type(self).__name__} 1\0".encode() + self.to_bytes()).digest()

    @cached_property
    def _bytes(self) -> bytes:
        return pack(_encoded(self))


class BulkyMessage(Message):
    """A message of which there are too many to keep its bytes beside its fields: they are made whenever they are needed."""

    def to_bytes(self) -> bytes:
        return pack(_encoded(self))


class SignedMessage(Message):
    """A message with a field `signature`: its sender's, over its kind and all other fields."""

    signature: bytes

    def signed(self) -> bytes:
        """What is signed."""
        return self._signed

    def signed_by(self, sign: Callable[[bytes], bytes]) -> Self:
        """The same message with the signature that `sign` makes."""
        return replace(self, signature=sign(self.signed()))  # type: ignore[type-var]

    @cached_property
    def _signed(self) -> bytes:
        parts = _encoded(self)
        del parts["signature"]
        return f"consortium signed {type(self).__name__} 1\0".encode() + pack(parts)


@cache
def _sent(kind: Any) -> Mapping[str, Any]:
    """The types of the fields that travel, by name."""
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind) if "local" not in f.metadata}


def _encoded(message: Any) -> dict[str, bytes]:
    kind: Any = type(message)
    return {name: _encode(getattr(message, name)) for name in _sent(kind)}


def _encode(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int):
        return str(value).encode()
    if isinstance(value, Message):
        return value.to_bytes()
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
    return kind.from_bytes(data)


def _decode_message(kind: Any, parts: Mapping[str, bytes]) -> Any:
    sent = _sent(kind)
    if parts.keys() != sent.keys():
        odd = ", ".join(sorted(parts.keys() ^ sent.keys()))
        raise MalformedMessage(f"{kind.__name__} has unknown or missing fields ({odd}); both sides must run the same version")
    return kind(**{name: _decode(sent[name], content) for name, content in parts.items()})


def _number(data: bytes) -> int:
    if not _NUMBER.fullmatch(data):
        raise MalformedMessage("a number is not written as plain decimal digits; both sides must run the same version")
    return int(data)
