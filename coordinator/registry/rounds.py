"""Finished rounds: who took part, who was missing and why, what was spent."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.errors import RegistryError
from coordinator.registry import event_chain
from coordinator.registry.bodies import round_body
from coordinator.registry.conversion import round_of
from coordinator.registry.reading import read_rows
from coordinator.registry.records import Round
from coordinator.registry.runs import run_id, run_row
from coordinator.registry.states import RunState
from coordinator.registry.tables import ContributionRow, ParticipantRow, PrivacySpendRow, RoundRow, RunRow
from coordinator.registry.transactions import Change, Transactions, reads, writes


class Rounds(Transactions):
    """Rounds come once and in order."""

    @writes
    def record_round(self, change: Change, run: str, finished: Round) -> Round:
        """Writes a finished round, its contributions and its event; rounds come in order, 0 first.

        Raises:
            RegistryError: the run is not running, the round is not the next one, or an institution is unknown.
        """
        event_chain.canonical(round_body(finished))  # before the database sees it: SQLite takes NaN as JSON, PostgreSQL does not
        of = run_row(change.session, run)
        _check_next_round(change.session, of, finished.number)
        row = _round_row(change.session, of, finished, change.now)
        change.session.add(row)
        change.session.flush()
        recorded = round_of(row)
        change.append("round-finished", of.run, round_body(recorded))
        return recorded

    @reads
    def rounds(self, session: Session, run: str) -> tuple[Round, ...]:
        """The finished rounds of a run, in order."""
        query = select(RoundRow).where(RoundRow.run_id == run_id(session, run)).order_by(RoundRow.number)
        return read_rows(session, query, round_of)


def _check_next_round(session: Session, run: RunRow, number: int) -> None:
    if run.state not in (RunState.RUNNING, RunState.PAUSED):
        raise RegistryError(f"run {run.run} is {run.state.value}; only a running one records rounds")
    last = session.scalar(select(func.max(RoundRow.number)).where(RoundRow.run_id == run.id))
    expected = 0 if last is None else last + 1
    if number != expected:
        raise RegistryError(f"run {run.run} expects round {expected} next, not round {number}; rounds are recorded once and in order")


def _round_row(session: Session, run: RunRow, finished: Round, now: datetime) -> RoundRow:
    names = [*(part.institution for part in finished.contributions), *(one.institution for one in finished.spent)]
    known = {row.name: row for row in session.scalars(select(ParticipantRow).where(ParticipantRow.name.in_(names)))}
    unknown = sorted(set(names) - known.keys())
    if unknown:
        raise RegistryError(f"institution {unknown[0]} of round {finished.number} is not in the registry; record participants first")
    fields = round_body(finished)
    del fields["contributions"]
    fields["spent"] = [PrivacySpendRow(participant=known[s.institution], epsilon=s.epsilon, delta=s.delta) for s in finished.spent]
    parts = [
        ContributionRow(
            participant=known[p.institution], bytes_up=p.bytes_up, bytes_down=p.bytes_down, missing_from=p.missing_from, reason=p.reason
        )
        for p in finished.contributions
    ]
    return RoundRow(run_id=run.id, finished_at=now, contributions=parts, **fields)
