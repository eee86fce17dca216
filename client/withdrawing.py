"""Ending participation: written beside the ledger first, so that the node refuses from its next request on, and then told."""

from __future__ import annotations

from dataclasses import dataclass

from client.decisions import Decisions
from client.errors import LedgerError
from client.ledger import Ledger
from protocols.acceptance import Withdrawal
from protocols.identity import Identity


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The statement for the coordinator, and the runs that it ends here."""

    statement: Withdrawal
    runs: tuple[str, ...]


def withdraw(ledger: Ledger, identity: Identity, run: str, reason: str) -> Withdrawn:
    """Takes the institution out of a run, or of every run that it accepted or was asked for, for good.

    A run that was left before keeps its first statement.

    Raises:
        LedgerError: this institution knows no such run.
    """
    known = (*ledger.runs(), *(one.run for one in ledger.accepted.pending()))
    if run and run not in known:
        raise LedgerError(f"{identity.name} was never asked to take part in run {run}; `consortium client ledger` lists its runs")
    statement = Withdrawal(run, identity.name, reason, ledger.now()).signed_by(identity.sign)
    runs, decisions = (run,) if run else known, Decisions(ledger.home)
    for one in runs:
        decisions.withdraw(one, statement)
    return Withdrawn(statement, runs)
