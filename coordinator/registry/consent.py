"""What institutions said to runs: their answers to a plan, and that they withdraw."""

from __future__ import annotations

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from coordinator.registry.bodies import answer_body, withdrawal_body
from coordinator.registry.conversion import answer_of, withdrawal_of
from coordinator.registry.participants import active_participant, participant_row
from coordinator.registry.reading import read_rows
from coordinator.registry.records import Answer, Withdrawal
from coordinator.registry.runs import living_run, run_id, run_row
from coordinator.registry.tables import AnswerRow, WithdrawalRow
from coordinator.registry.transactions import Change, Transactions, reads, writes


class Consent(Transactions):
    """Signed statements; the callers checked the signatures."""

    @writes
    def record_answer(self, change: Change, run: str, answer: Answer) -> Answer:
        """Keeps an institution's answer to a run's plan in the place of a former one; said again, it stays as it was.

        Raises:
            RegistryError: the run ended, or the institution is unknown or was revoked.
        """
        of, who = living_run(change.session, run), active_participant(change.session, answer.institution)
        row = change.session.scalars(select(AnswerRow).where(AnswerRow.run_id == of.id, AnswerRow.participant_id == who.id)).first()
        if row is not None and answer_body(answer_of(row)) == answer_body(answer):
            return answer_of(row)
        if row is None:
            row = AnswerRow(run_id=of.id, participant=who)
            change.session.add(row)
        row.accepted, row.reason, row.at = answer.accepted, answer.reason, change.now
        row.statement, row.signature = answer.statement, answer.signature
        change.append("plan-answered", of.run, answer_body(answer))
        return answer_of(row)

    @reads
    def answers(self, session: Session, run: str) -> tuple[Answer, ...]:
        """The present answers to a run's plan, in the order of names."""
        found = read_rows(session, select(AnswerRow).where(AnswerRow.run_id == run_id(session, run)), answer_of)
        return tuple(sorted(found, key=lambda answer: answer.institution))

    @writes
    def withdraw(self, change: Change, withdrawal: Withdrawal) -> Withdrawal:
        """Keeps that an institution withdraws, also after a run ended; the same statement once more changes nothing."""
        who = participant_row(change.session, withdrawal.institution)
        of = run_row(change.session, withdrawal.run) if withdrawal.run is not None else None
        scope = WithdrawalRow.run_id.is_(None) if of is None else WithdrawalRow.run_id == of.id
        row = change.session.scalars(select(WithdrawalRow).where(WithdrawalRow.participant_id == who.id, scope)).first()
        if row is None:
            fields = {"statement": withdrawal.statement, "signature": withdrawal.signature}
            row = WithdrawalRow(participant=who, run=of, at=change.now, **fields)
            change.session.add(row)
            change.append("institution-withdrew", None if of is None else of.run, withdrawal_body(withdrawal))
        return withdrawal_of(row)

    @reads
    def withdrawals(self, session: Session, run: str | None = None) -> tuple[Withdrawal, ...]:
        """Withdrawals, the oldest first; for a run, those from it and those from all runs."""
        query = select(WithdrawalRow).order_by(WithdrawalRow.id)
        if run is not None:
            query = query.where(or_(WithdrawalRow.run_id.is_(None), WithdrawalRow.run_id == run_id(session, run)))
        return read_rows(session, query, withdrawal_of)
