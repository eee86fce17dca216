"""Tables of the event chain and of leases."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.registry.tables.base import Base


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


class ChainHeadRow(Base):
    """The one row that a writer locks: where the chain ends, so that two writers never extend the same link."""

    __tablename__ = "chain_head"
    __table_args__ = (CheckConstraint("id = 1", name="one"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    length: Mapped[int]
    hash: Mapped[str] = mapped_column(String(64))


class LeaseRow(Base):
    """Who drives a run (or another named thing), and until when without renewal."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    owner: Mapped[str] = mapped_column(String(200))
    expires_at: Mapped[datetime]
    # Grows by one at each change of owner: a former owner's number is then too small (fencing, Gray and Cheriton 1989).
    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
