"""Institutions, their keys over time, who vouches for a key, and who was sent away."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.errors import RegistryError
from coordinator.registry.bodies import participant_body, revocation_body, rotation_body, voucher_body
from coordinator.registry.conversion import participant_of, rotation_of, voucher_of
from coordinator.registry.reading import read_rows
from coordinator.registry.records import Participant, Rotation, Voucher
from coordinator.registry.tables import ParticipantRow, RotationRow, VoucherRow
from coordinator.registry.transactions import Change, Transactions, reads, writes


class Participants(Transactions):
    """Who the registry knows. What a key is worth is decided by the institutions' rosters, not here."""

    @writes
    def record_participants(self, change: Change, participants: Sequence[Participant]) -> None:
        """Adds institutions that are not known yet.

        Raises:
            RegistryError: one is known with another key; nothing is added.
        """
        for participant in participants:
            add_participant(change, participant)

    @reads
    def participants(self, session: Session) -> tuple[Participant, ...]:
        """All institutions by name."""
        return read_rows(session, select(ParticipantRow).order_by(ParticipantRow.name), participant_of)

    @reads
    def participant(self, session: Session, name: str) -> Participant:
        """The institution of this name; raises RegistryError if there is none."""
        found = read_rows(session, select(ParticipantRow).where(ParticipantRow.name == name), participant_of)
        return found[0] if found else participant_of(participant_row(session, name))

    @reads
    def participant_by_certificate(self, session: Session, sha256: str) -> Participant | None:
        """Whose client certificate this is; None also for one that was revoked, so that it opens nothing."""
        query = select(ParticipantRow).where(ParticipantRow.certificate_sha256 == sha256, ParticipantRow.revoked_at.is_(None))
        return next(iter(read_rows(session, query, participant_of)), None)

    @writes
    def revoke(self, change: Change, name: str, reason: str) -> Participant:
        """Sends an institution away: its certificate opens nothing from now on; its past stays."""
        row = active_participant(change.session, name)
        row.revoked_at, row.revoked_reason = change.now, reason
        change.append("participant-revoked", None, revocation_body(participant_of(row)))
        return participant_of(row)

    @writes
    def rotate(self, change: Change, name: str, new_key: str, signature: str) -> Participant:
        """Replaces an institution's identity key by one that the former signed; the caller checked the signature."""
        row = active_participant(change.session, name)
        if row.public_key == new_key:
            return participant_of(row)
        rotation = Rotation(name, row.public_key, new_key, signature, change.now)
        fields = {"old_key": rotation.old_key, "new_key": new_key, "signature": signature, "at": change.now}
        change.session.add(RotationRow(participant_id=row.id, **fields))
        row.public_key = new_key
        change.append("participant-rotated", None, rotation_body(rotation))
        return participant_of(row)

    @reads
    def rotations(self, session: Session) -> tuple[Rotation, ...]:
        """All changes of keys, the oldest first."""
        return read_rows(session, select(RotationRow).order_by(RotationRow.id), rotation_of)

    @writes
    def vouch(self, change: Change, voucher: Voucher) -> Voucher:
        """Keeps an institution's word for another's key; said again, it stays as it was. The caller checked the signature."""
        by = active_participant(change.session, voucher.by)
        key = VoucherRow.subject == voucher.subject, VoucherRow.public_key == voucher.public_key, VoucherRow.by_participant_id == by.id
        row = change.session.scalars(select(VoucherRow).where(*key)).first()
        if row is None:
            fields = {"subject": voucher.subject, "public_key": voucher.public_key, "signature": voucher.signature}
            row = VoucherRow(participant=by, at=change.now, **fields)
            change.session.add(row)
            change.append("voucher", None, voucher_body(voucher))
        return voucher_of(row)

    @reads
    def vouchers(self, session: Session) -> tuple[Voucher, ...]:
        """All vouchers, the oldest first."""
        return read_rows(session, select(VoucherRow).order_by(VoucherRow.id), voucher_of)


def participant_row(session: Session, name: str) -> ParticipantRow:
    """The row of an institution; raises RegistryError if there is none."""
    row = session.scalars(select(ParticipantRow).where(ParticipantRow.name == name)).first()
    if row is None:
        raise RegistryError(f"there is no institution {name}; `consortium coordinator participants` lists them")
    return row


def active_participant(session: Session, name: str) -> ParticipantRow:
    """As `participant_row`; raises RegistryError also if the institution was revoked."""
    row = participant_row(session, name)
    if row.revoked_at is not None:
        raise RegistryError(f"institution {name} was revoked ({row.revoked_reason}); invite it again if it is to take part")
    return row


def add_participant(change: Change, participant: Participant) -> ParticipantRow:
    """The institution's row, made if its name is new; raises RegistryError if it is known with another key."""
    row = change.session.scalars(select(ParticipantRow).where(ParticipantRow.name == participant.name)).first()
    if row is None:
        row = ParticipantRow(joined_at=change.now, revoked_reason="", **participant_body(participant))
        change.session.add(row)
        change.append("participant-joined", None, participant_body(participant))
    elif row.public_key != participant.public_key:
        raise RegistryError(f"institution {row.name} is registered with another key; a new key must be accepted as a rotation first")
    return row
