"""What a coordinator offers for institutions' rosters: entries, with who signed for them. It enters a copy only by that copy's owner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.codec import Message, SignedMessage
from protocols.errors import SignatureError
from protocols.identity import Identity, verify
from protocols.roster import Roster, RosterEntry


@dataclass(frozen=True)
class Rotation(SignedMessage):
    """An institution's new identity key, signed by the one before; keys are Ed25519, 32 bytes."""

    name: str
    old_key: bytes
    new_key: bytes
    signature: bytes

    def check(self) -> None:
        """Raises SignatureError unless the old key signed."""
        verify(self.old_key, self.signed(), self.signature, f"{self.name} under its former key")


@dataclass(frozen=True)
class Voucher(SignedMessage):
    """The word of institution `by`, where a person compared the fingerprint, that `public_key` is that of `subject`."""

    subject: str
    public_key: bytes
    by: str
    signature: bytes

    def check(self, key: bytes) -> None:
        """Raises SignatureError unless the holder of `key`, the voucher's, signed."""
        verify(key, self.signed(), self.signature, self.by)


@dataclass(frozen=True)
class OfferedInstitution(Message):
    """One institution as the coordinator has it: its entry, the day (ISO date) since which it is revoked, and what was signed for it."""

    entry: RosterEntry
    revoked: str  # empty if it is not
    reason: str
    rotations: tuple[Rotation, ...]  # of its key, oldest first
    vouchers: tuple[Voucher, ...]

    def leads_from(self, key: bytes) -> bool:
        """Whether signed rotations lead from a key to the one that is offered."""
        for rotation in self.rotations:
            if (rotation.name, rotation.old_key) == (self.entry.name, key) and _holds(rotation):
                key = rotation.new_key
        return key == self.entry.public_key

    def vouched_by(self, roster: Roster) -> tuple[str, ...]:
        """Who of a roster signed for name and key, each once and never the institution itself, sorted."""
        keys = {entry.name: entry.public_key for entry in roster.entries if entry.name != self.entry.name}
        return tuple(sorted({one.by for one in self.vouchers if one.by in keys and self._is_vouched(one, keys[one.by])}))

    def _is_vouched(self, voucher: Voucher, key: bytes) -> bool:
        if (voucher.subject, voucher.public_key) != (self.entry.name, self.entry.public_key):
            return False
        try:
            voucher.check(key)
        except SignatureError:
            return False
        return True


def rotation(name: str, old: Identity, new: Identity) -> Rotation:
    """The statement of the old key that the new one takes its place."""
    return Rotation(name, old.public_key, new.public_key, b"").signed_by(old.sign)


def roster_offered(offer: Sequence[OfferedInstitution]) -> Roster:
    """Everybody who is not revoked."""
    return Roster(tuple(sorted((one.entry for one in offer if not one.revoked), key=lambda entry: entry.name)))


def _holds(one: Rotation) -> bool:
    try:
        one.check()
    except SignatureError:
        return False
    return True
