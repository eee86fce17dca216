"""Messages as JSON by the types of their fields: bytes in hexadecimal, everything else as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

from protocols.codec import Message


def to_form(value: Any) -> Any:
    """Of a field or a message; what does not travel is left out."""
    if isinstance(value, Message):
        kind: Any = value
        return {f.name: to_form(getattr(value, f.name)) for f in fields(kind) if "local" not in f.metadata}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {key: to_form(content) for key, content in value.items()}
    return [to_form(content) for content in value] if isinstance(value, tuple) else value


def from_form(kind: Any, form: Any) -> Any:
    """The inverse of `to_form` for a field or message of type `kind`."""
    if kind is bytes:
        return bytes.fromhex(form)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return tuple(from_form(arguments[0], content) for content in form)
    if origin is not None:
        return {key: from_form(arguments[1], content) for key, content in form.items()}
    if isinstance(form, Mapping):
        hints = get_type_hints(kind)
        return kind(**{name: from_form(hints[name], content) for name, content in form.items()})
    return form
