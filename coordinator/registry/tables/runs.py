"""Tables of runs, their rounds and the models that they released."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, ForeignKey, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from coordinator.registry.states import RunState, WantedState
from coordinator.registry.tables.base import Base
from coordinator.registry.tables.parties import ParticipantRow


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
    reason: Mapped[str] = mapped_column(Text, server_default=text("''"))
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
    withdrawn_at: Mapped[datetime | None]
    withdrawn_reason: Mapped[str] = mapped_column(Text, server_default=text("''"))
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
