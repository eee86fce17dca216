"""The event chain: each link covers the one before, so that no event can be changed, removed or put in between unseen.

A link is taken over an event's digest, not its bytes: that a chain extends a shorter one is shown by 32 bytes per event in between,
without showing the events themselves (PROTOCOL, section 4).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from protocols.errors import ChainError

HASH_BYTES = 32
GENESIS = bytes(HASH_BYTES)  # stands before the first event
MOST_DIGESTS = 1 << 16  # of one extension: 2 MB in a request


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Length of an event chain and the hash of its last link."""

    length: int
    hash: bytes


def event_digest(event: bytes) -> bytes:
    """SHA-256 of an event's own bytes: what is shown of it to those who may not read it."""
    return hashlib.sha256(event).digest()


def link(previous: bytes, event: bytes) -> bytes:
    """Hash of the chain that ends with `event` and before it has the hash `previous`."""
    return extend(previous, event_digest(event))


def extend(head: bytes, digests: bytes) -> bytes:
    """Hash of the chain that follows `head` by the events of these digests, 32 bytes each, in order.

    Each link is SHA-256 over a domain tag, the link before and the event's digest.

    Raises:
        ChainError: `head` or the last digest is not whole.
    """
    if len(head) != HASH_BYTES or len(digests) % HASH_BYTES:
        raise ChainError(f"hashes and digests of an event chain have {HASH_BYTES} bytes each; both sides must run the same version")
    for start in range(0, len(digests), HASH_BYTES):
        head = hashlib.sha256(b"consortium event chain 2\0" + head + digests[start : start + HASH_BYTES]).digest()
    return head


def check_extension(start: ChainHead, digests: bytes, end: ChainHead) -> None:
    """Whether the events of `digests` lead from one head to the other, which may be equal.

    Raises:
        ChainError: they are too few or too many, or lead elsewhere.
    """
    between = len(digests) // HASH_BYTES
    if start.length + between != end.length or extend(start.hash, digests) != end.hash:
        raise ChainError(f"an event chain of {end.length} events is not shown to extend the one of {start.length} that was shown before")
