"""Everyone whom the registry knows by a key: institutions, present and revoked, and those that asked to join and are none yet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from coordinator.registry import Registry
from coordinator.registry.records import JoinRequest, Participant
from coordinator.registry.states import JoinState
from protocols.fingerprint import fingerprint

COMING_BACK = "in a new folder, as its keys are new, `consortium client init --invite FILE --institution NEW --former OLD`"
OTHER_KEYS = "a request with other keys waits under its name; refuse it, or revoke the institution first if it is to have new keys"


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
    asking = {request.name: _asking(request) for request in registry.join_requests() if request.state is not JoinState.APPROVED}
    admitted = {one.name: _admitted(one, asking.get(one.name)) for one in registry.participants()}
    found = asking | admitted
    return tuple(found[name] for name in sorted(found))


def sent_away(participant: Participant) -> str:
    """That an institution was revoked, and how one comes back."""
    reason = f" ({participant.revoked_reason})" if participant.revoked_reason else ""
    return f"{participant.name} was revoked{reason}; ask the operator what happened, and come back with a new invitation: {COMING_BACK}"


def _asking(request: JoinRequest) -> Known:
    return Known(request.name, request.state.value, request.requested_at, request.identity_key)


def _admitted(participant: Participant, asking: Known | None) -> Known:
    """A request that waits comes first: its words are to be compared."""
    waits = asking is not None and asking.state == JoinState.WAITING
    if asking is not None and waits and participant.revoked_at is not None:
        return replace(asking, reason=f"it asks to come back with new keys, and was revoked before ({participant.revoked_reason})")
    if participant.revoked_at is not None:
        return Known(participant.name, "revoked", participant.revoked_at, participant.public_key, participant.revoked_reason)
    return Known(participant.name, "approved", participant.joined_at, participant.public_key, OTHER_KEYS if waits else "")
