"""Leases with fencing numbers: one owner at a time, and one that was deposed without knowing it writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from sqlalchemy.orm import Session

from coordinator.errors import LeaseHeld
from coordinator.registry.tables import LeaseRow
from coordinator.registry.transactions import Change, Fence, Transactions, reads, writes


class Leases(Transactions):
    """Who drives a run, or another named thing. A lease is no history and leaves no events."""

    @writes
    def take_lease(self, change: Change, name: str, owner: str, seconds: float, gone: Callable[[str], bool] | None = None) -> int:
        """Takes or renews a lease and returns its fencing number, which grows by one whenever the owner changes.

        Args:
            gone: says whether an owner is known to have ended without giving the lease back.

        Raises:
            LeaseHeld: another owner has it.
        """
        row = change.session.get(LeaseRow, name)
        if row is None:
            row = LeaseRow(name=name, owner="", expires_at=change.now, fence=0)
            change.session.add(row)
        if row.owner != owner:
            if row.owner and row.expires_at > change.now and not (gone and gone(row.owner)):
                until = row.expires_at.isoformat(timespec="seconds")
                raise LeaseHeld(f"{name} is driven by {row.owner}; stop that process, or where it died already, wait until {until}")
            row.owner, row.fence = owner, row.fence + 1
        row.expires_at = change.now + timedelta(seconds=seconds)
        return row.fence

    @writes
    def release_lease(self, change: Change, name: str, owner: str) -> None:
        """Gives a lease back; that of another owner stays. The row stays too, so that its number never begins again."""
        row = change.session.get(LeaseRow, name)
        if row is not None and row.owner == owner:
            row.owner, row.expires_at = "", change.now

    @reads
    def check_fence(self, session: Session, name: str, fence: int) -> None:
        """Raises LeaseLost unless the lease is held with this number."""
        Fence(name, fence).check(session)
