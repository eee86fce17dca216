"""The event chain: each event's hash covers the one before, so that no event can be changed, removed or put in between unseen."""

from __future__ import annotations

import hashlib

GENESIS = bytes(32)  # stands before the first event


def link(previous: bytes, event: bytes) -> bytes:
    """Hash of an event that follows `previous`: SHA-256 over a domain tag, the 32 bytes before, and the event's own bytes."""
    if len(previous) != len(GENESIS):
        raise ValueError(f"the hash before an event has {len(GENESIS)} bytes, not {len(previous)}")
    return hashlib.sha256(b"consortium event chain 1\0" + previous + event).digest()
