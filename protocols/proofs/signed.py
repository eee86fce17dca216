"""What a signed envelope that is part of a proof holds; one that holds something else proves nothing."""

from __future__ import annotations

from collections.abc import Mapping

from protocols.errors import NoProof
from protocols.identity import Envelope
from protocols.pack import PackError, unpack


def parts_of(envelope: Envelope) -> Mapping[str, bytes]:
    """Raises NoProof if the payload has no parts."""
    try:
        return unpack(envelope.payload)
    except PackError:
        raise NoProof(f"the message signed by {envelope.sender} has no parts") from None


def part_of(envelope: Envelope, name: str) -> bytes:
    """Raises NoProof if there is no such part."""
    parts = parts_of(envelope)
    if name not in parts:
        raise NoProof(f"the message signed by {envelope.sender} holds no {name}")
    return parts[name]
