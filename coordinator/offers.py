"""What the registry offers for institutions' rosters, and what it takes from them: new keys and vouchers, checked before."""

from __future__ import annotations

from datetime import datetime, timedelta

from coordinator.errors import RegistryError
from coordinator.registry import Registry
from coordinator.registry.records import Participant
from coordinator.registry.records import Voucher as VoucherRecord
from protocols.identity import verify
from protocols.roster import Roster, RosterEntry
from protocols.roster_offer import OfferedInstitution, Rotation, Voucher

DAY, MOST_A_DAY = timedelta(days=1), 3  # changes of one institution's key: each is an event that all institutions follow


def offered_institutions(registry: Registry) -> tuple[OfferedInstitution, ...]:
    """Everybody who was ever admitted, by name, with the rotations of its key and the vouchers for its present one."""
    rotations, vouchers = registry.rotations(), registry.vouchers()
    return tuple(
        OfferedInstitution(
            entry=_entry(one),
            revoked=one.revoked_at.date().isoformat() if one.revoked_at else "",
            reason=one.revoked_reason,
            rotations=tuple(
                Rotation(row.institution, *map(bytes.fromhex, (row.old_key, row.new_key, row.signature)))
                for row in rotations
                if row.institution == one.name
            ),
            vouchers=tuple(
                Voucher(row.subject, bytes.fromhex(row.public_key), row.by, bytes.fromhex(row.signature))
                for row in vouchers
                if (row.subject, row.public_key) == (one.name, one.public_key)
            ),
        )
        for one in registry.participants()
    )


def present_roster(registry: Registry) -> Roster:
    """Everybody whom new epochs may be of: admitted and not revoked. What `Operator.roster` of a deployed run gives."""
    return Roster(tuple(_entry(one) for one in registry.participants() if one.revoked_at is None))


def take_rotation(registry: Registry, participant: Participant, rotation: Rotation, possession: bytes, now: datetime) -> None:
    """Puts an institution's new key in the place of its present one; said again, it changes nothing.

    Raises:
        RegistryError: it is not about this institution's present key, the new one was seen before, or too many came within a day.
        SignatureError: old or new key did not sign.
    """
    named, present = (rotation.name, rotation.old_key.hex()), (participant.name, participant.public_key)
    if rotation.name == participant.name and rotation.new_key.hex() == participant.public_key:
        return
    if named != present:
        raise RegistryError(f"this rotation is not of the present key of {participant.name}; compare it with the operator")
    rotation.check()
    verify(rotation.new_key, rotation.signed(), possession, f"{participant.name} under its new key")
    _check_is_new(registry, participant.name, rotation.new_key.hex(), now)
    registry.rotate(participant.name, rotation.new_key.hex(), rotation.signature.hex())


def take_voucher(registry: Registry, participant: Participant, voucher: Voucher) -> None:
    """Keeps the caller's word for another institution's present key.

    Raises:
        RegistryError: it is another's word, about itself, or not for a key that is offered. SignatureError: the caller did not sign it.
    """
    if voucher.by != participant.name or voucher.subject == participant.name:
        raise RegistryError(f"{participant.name} vouches for others in its own name alone")
    if registry.participant(voucher.subject).public_key != voucher.public_key.hex():
        raise RegistryError(f"the registry has another key of {voucher.subject}; compare fingerprints with it and the operator")
    voucher.check(bytes.fromhex(participant.public_key))
    registry.vouch(VoucherRecord(voucher.subject, voucher.public_key.hex(), voucher.by, voucher.signature.hex()))


def _check_is_new(registry: Registry, name: str, key: str, now: datetime) -> None:
    """Two institutions with one key would make a roster contradict itself, and end every run."""
    rotations = registry.rotations()
    known = {one.public_key for one in registry.participants()} | {one.identity_key for one in registry.join_requests()}
    if key in known | {seen for one in rotations for seen in (one.old_key, one.new_key)}:
        raise RegistryError(f"the new key of {name} was used before, here or by another institution; make one that nobody has seen")
    if sum(one.institution == name and one.at is not None and one.at > now - DAY for one in rotations) >= MOST_A_DAY:
        raise RegistryError(f"{name} has changed its key {MOST_A_DAY} times within a day; change it again tomorrow")


def _entry(one: Participant) -> RosterEntry:
    return RosterEntry(one.name, bytes.fromhex(one.public_key))
