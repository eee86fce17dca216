"""Tables of what institutions said to runs: their answers to plans, and that they withdraw."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from coordinator.registry.tables.base import Base
from coordinator.registry.tables.parties import ParticipantRow
from coordinator.registry.tables.runs import RunRow


class AnswerRow(Base):
    """An institution's latest answer to the plan of a run."""

    __tablename__ = "answers"
    __table_args__ = (UniqueConstraint("run_id", "participant_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    participant_id: Mapped[int] = mapped_column(ForeignKey("participants.id"))
    accepted: Mapped[bool]
    reason: Mapped[str] = mapped_column(Text)
    statement: Mapped[str] = mapped_column(Text)
    signature: Mapped[str] = mapped_column(String(128))
    at: Mapped[datetime]
    participant: Mapped[ParticipantRow] = relationship(lazy="joined")


class WithdrawalRow(Base):
    """An institution takes no further part in a run, or in any."""

    __tablename__ = "withdrawals"

    id: Mapped[int] = mapped_column(primary_key=True)
    participant_id: Mapped[int] = mapped_column(ForeignKey("participants.id"))
    run_id: Mapped[int | None] = mapped_column(ForeignKey("runs.id"))
    statement: Mapped[str] = mapped_column(Text)
    signature: Mapped[str] = mapped_column(String(128))
    at: Mapped[datetime]
    participant: Mapped[ParticipantRow] = relationship(lazy="joined")
    run: Mapped[RunRow | None] = relationship(lazy="joined")
