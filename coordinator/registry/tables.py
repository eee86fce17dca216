"""The tables. Times are UTC with microseconds; hashes are hexadecimal text; enums are stored by value."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy import Enum as EnumType
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from coordinator.registry.states import RunState, WantedState

# Named constraints, so that a migration can drop them on every database.
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time; SQLite drops the zone, which is put back when a row is read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times in the registry carry a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _by_value(states: type[Enum]) -> EnumType:
    # Plain text with a check: a native enum of PostgreSQL cannot lose a value again, and SQLite has none.
    names = {"values_callable": lambda members: [member.value for member in members], "native_enum": False}
    return EnumType(states, name=states.__name__.lower(), length=16, create_constraint=True, **names)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        RunState: _by_value(RunState),
        WantedState: _by_value(WantedState),
    }


class ParticipantRow(Base):
    """An institution and the key that it signs with."""

    __tablename__ = "participants"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    public_key: Mapped[str] = mapped_column(String(64))
    joined_at: Mapped[datetime]


class RunRow(Base):
    """A submitted plan, where it is, and where the operator wants it to be."""

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    run: Mapped[str] = mapped_column(String(80), unique=True)
    plan_name: Mapped[str] = mapped_column(String(64))
    plan_sha256: Mapped[str] = mapped_column(String(64), index=True)
    plan: Mapped[str] = mapped_column(Text)
    base_sha256: Mapped[str] = mapped_column(String(64))
    terms_sha256: Mapped[str] = mapped_column(String(64))
    seed: Mapped[int] = mapped_column(BigInteger)
    rounds: Mapped[int]
    metric: Mapped[str] = mapped_column(String(32))
    higher_is_better: Mapped[bool]
    state: Mapped[RunState]
    wanted: Mapped[WantedState]
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class RoundRow(Base):
    """A finished round: hashes of what it made, and its figures over all institutions together."""

    __tablename__ = "rounds"
    __table_args__ = (UniqueConstraint("run_id", "number"), CheckConstraint("number >= 0", name="number"))

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    number: Mapped[int]
    state_sha256: Mapped[str] = mapped_column(String(64))
    # A list of [sum, hash], because a JSON object promises no order.
    transcripts: Mapped[list[Any]] = mapped_column(JSON)
    experts: Mapped[dict[str, Any] | None]
    loss: Mapped[float | None]
    metric: Mapped[float | None]
    figures: Mapped[dict[str, Any] | None]
    seconds: Mapped[float]
    finished_at: Mapped[datetime]
    contributions: Mapped[list[ContributionRow]] = relationship(order_by="ContributionRow.id", lazy="selectin")
    spent: Mapped[list[PrivacySpendRow]] = relationship(order_by="PrivacySpendRow.id", lazy="selectin")


class ContributionRow(Base):
    """One institution's part in a round."""

    __tablename__ = "contributions"
    __table_args__ = (UniqueConstraint("round_id", "participant_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    round_id: Mapped[int] = mapped_column(ForeignKey("rounds.id"))
    participant_id: Mapped[int] = mapped_column(ForeignKey("participants.id"))
    bytes_up: Mapped[int] = mapped_column(BigInteger)
    bytes_down: Mapped[int] = mapped_column(BigInteger)
    missing_from: Mapped[str | None] = mapped_column(String(64))
    participant: Mapped[ParticipantRow] = relationship(lazy="joined")


class ModelVersionRow(Base):
    """A released model; its row is written after its files."""

    __tablename__ = "model_versions"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), unique=True)
    name: Mapped[str] = mapped_column(String(64))
    version: Mapped[int]
    path: Mapped[str] = mapped_column(Text)
    manifest_sha256: Mapped[str] = mapped_column(String(64))
    transcript_sha256: Mapped[str] = mapped_column(String(64))
    signer: Mapped[str] = mapped_column(String(64))
    metric: Mapped[float | None]
    released_at: Mapped[datetime]
    run: Mapped[RunRow] = relationship(lazy="joined")


class PrivacySpendRow(Base):
    """At most what one institution had spent by the end of a round; no rows where a plan adds no noise."""

    __tablename__ = "privacy_spend"
    __table_args__ = (UniqueConstraint("round_id", "participant_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    round_id: Mapped[int] = mapped_column(ForeignKey("rounds.id"))
    participant_id: Mapped[int] = mapped_column(ForeignKey("participants.id"))
    epsilon: Mapped[float]
    delta: Mapped[float]
    participant: Mapped[ParticipantRow] = relationship(lazy="joined")


class EventRow(Base):
    """A link of the event chain. The database refuses to change or delete one (migrations)."""

    __tablename__ = "events"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(64))
    run: Mapped[str | None] = mapped_column(String(80), index=True)
    at: Mapped[datetime]
    body: Mapped[str] = mapped_column(Text)
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64), unique=True)


class LeaseRow(Base):
    """Who drives a run (or another named thing), and until when without renewal."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    owner: Mapped[str] = mapped_column(String(200))
    expires_at: Mapped[datetime]
