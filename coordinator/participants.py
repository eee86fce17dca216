"""Everyone whom the registry knows by a key: institutions, present and revoked, and those that asked to join and are none yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from coordinator.registry import Registry
from coordinator.registry.records import JoinRequest, Participant
from coordinator.registry.states import JoinState
from protocols.fingerprint import fingerprint


@dataclass(frozen=True, slots=True)
class Known:
    """One institution: where it stands, since when, and the words of its identity key."""

    name: str
    state: str  # waiting, refused, approved or revoked
    since: datetime | None
    public_key: str  # Ed25519, hexadecimal
    reason: str = ""

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.name, bytes.fromhex(self.public_key))


def known_institutions(registry: Registry) -> tuple[Known, ...]:
    """All of them by name."""
    requests = (request for request in registry.join_requests() if request.state is not JoinState.APPROVED)
    found = {request.name: _asking(request) for request in requests}
    found |= {participant.name: _admitted(participant) for participant in registry.participants()}
    return tuple(found[name] for name in sorted(found))


def _asking(request: JoinRequest) -> Known:
    return Known(request.name, request.state.value, request.requested_at, request.identity_key)


def _admitted(participant: Participant) -> Known:
    if participant.revoked_at is not None:
        return Known(participant.name, "revoked", participant.revoked_at, participant.public_key, participant.revoked_reason)
    return Known(participant.name, "approved", participant.joined_at, participant.public_key)
