"""Somebody who was not there, and has the roster and the coordinator's public key alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocols.errors import ConsortiumError


def is_convinced(proof: bytes, accuse: Callable[[bytes], str], of: str) -> None:
    """Asserts that the proof says what it should, and nothing once any byte (one in about forty is tried) is another."""
    assert of in accuse(proof)
    for place in range(0, len(proof), max(1, len(proof) // 40)):
        with pytest.raises(ConsortiumError):
            accuse(proof[:place] + bytes([proof[place] ^ 1]) + proof[place + 1 :])
