"""Tables of institutions: how they join, their keys, and who vouches for them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from coordinator.registry.states import JoinState
from coordinator.registry.tables.base import Base


class ParticipantRow(Base):
    """An institution and the key that it signs with."""

    __tablename__ = "participants"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    public_key: Mapped[str] = mapped_column(String(64))
    joined_at: Mapped[datetime]
    node_key: Mapped[str | None] = mapped_column(Text)
    certificate_sha256: Mapped[str | None] = mapped_column(String(64), index=True, unique=True)
    revoked_at: Mapped[datetime | None]
    revoked_reason: Mapped[str] = mapped_column(Text, server_default=text("''"))


class InvitationRow(Base):
    """Who may ask to join, with which certificate of its own; the latest invitation of a name."""

    __tablename__ = "invitations"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    certificate_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class JoinRequestRow(Base):
    """What an institution asked to join with; its latest request."""

    __tablename__ = "join_requests"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    identity_key: Mapped[str] = mapped_column(String(64))
    node_key: Mapped[str] = mapped_column(Text)
    csr: Mapped[str] = mapped_column(Text)
    signature: Mapped[str] = mapped_column(String(128))
    requested_at: Mapped[datetime]
    state: Mapped[JoinState]


class RotationRow(Base):
    """A key that followed another of the same institution, signed with the former."""

    __tablename__ = "rotations"

    id: Mapped[int] = mapped_column(primary_key=True)
    participant_id: Mapped[int] = mapped_column(ForeignKey("participants.id"))
    old_key: Mapped[str] = mapped_column(String(64))
    new_key: Mapped[str] = mapped_column(String(64))
    signature: Mapped[str] = mapped_column(String(128))
    at: Mapped[datetime]
    participant: Mapped[ParticipantRow] = relationship(lazy="joined")


class VoucherRow(Base):
    """An institution's word that a key is that of another."""

    __tablename__ = "vouchers"
    __table_args__ = (UniqueConstraint("subject", "public_key", "by_participant_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(String(200))
    public_key: Mapped[str] = mapped_column(String(64))
    by_participant_id: Mapped[int] = mapped_column(ForeignKey("participants.id"))
    signature: Mapped[str] = mapped_column(String(128))
    at: Mapped[datetime]
    participant: Mapped[ParticipantRow] = relationship(lazy="joined")
