"""A twin of the product with one check taken out, in which an attack must succeed: else its refusal here would prove nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


def unchecked(*_: Any, **__: Any) -> None:
    """In place of a check, or of what is written down."""


@contextmanager
def weakened(*targets: str, by: Any = unchecked) -> Iterator[None]:
    """While it lasts, every target ("module.name", as its user imports it) is replaced."""
    with pytest.MonkeyPatch.context() as patch:
        for target in targets:
            patch.setattr(target, by)
        yield


class AnySignature:
    """An Ed25519 key under which every signature holds."""

    @classmethod
    def from_public_bytes(cls, _: bytes) -> AnySignature:
        return cls()

    def verify(self, signature: bytes, data: bytes) -> None:
        """Never raises."""


def without_signatures() -> Any:
    """The twin that verifies no signature at all."""
    return weakened("protocols.identity.Ed25519PublicKey", by=AnySignature)
