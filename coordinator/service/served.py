"""What a method of the service is made of: the resources it works on, who may call it, and the function that answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from coordinator.authority import Authority
from coordinator.registry import Registry
from coordinator.registry.records import Invitation, Participant
from protocols.service import Method


@dataclass(frozen=True, slots=True)
class Resources:
    """What methods work on; one for the whole server, shared by its threads."""

    registry: Registry
    authority: Authority
    coordinator_key: bytes  # Ed25519, of the operator's identity
    models: Path  # folder of released models
    clock: Callable[[], datetime]  # aware


@dataclass(frozen=True, slots=True)
class Invited:
    """The bearer of an invitation; `certificate_sha256` is that of the certificate that came with it."""

    invitation: Invitation

    @property
    def name(self) -> str:
        return self.invitation.name


@dataclass(frozen=True, slots=True)
class Member:
    """An institution that was approved and not revoked, calling with its present certificate."""

    participant: Participant

    @property
    def name(self) -> str:
        return self.participant.name


@dataclass(frozen=True, slots=True)
class Former:
    """A member calling with an earlier certificate of its own: the answer to its renewal may have been lost."""

    participant: Participant

    @property
    def name(self) -> str:
        return self.participant.name


Caller = Invited | Member | Former


@dataclass(frozen=True, slots=True)
class Served:
    """A method, the kinds of caller that may use it, and `answer(resources, caller, request)`: a reply, or an iterator of them."""

    method: Method[Any, Any]
    callers: tuple[type[Caller], ...]
    answer: Callable[[Resources, Any, Any], Any]
