"""Ending participation: written beside the ledger first, so that the node refuses from its next request on, and then told."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from client.decisions import Decisions
from client.errors import LedgerError, WithdrawalUntold
from client.ledger import Ledger
from protocols.acceptance import Withdrawal
from protocols.errors import ConsortiumError
from protocols.identity import Identity
from protocols.service import KeptWithdrawal


def runs_to_leave(ledger: Ledger, name: str, run: str) -> tuple[str, ...]:
    """The run of this id, or the one whose id begins so; without any, every run that the institution `name` accepted or was asked for.

    Raises:
        LedgerError: this institution knows no such run, or more than one.
    """
    known = tuple(dict.fromkeys((*ledger.runs(), *(one.run for one in ledger.accepted.pending()))))
    found = (run,) if run in known else tuple(one for one in known if one.startswith(run))
    if run and len(found) > 1:
        raise LedgerError(f"more than one run begins with {run}: {', '.join(found)}; name one of them")
    if run and not found:
        raise LedgerError(f"{name} was never asked to take part in run {run}; its runs are {', '.join(known) or 'none'}")
    return found


def withdraw(ledger: Ledger, identity: Identity, runs: Iterable[str], reason: str) -> list[Withdrawal]:
    """Takes the institution out of runs, for good.

    Returns the statements for the coordinator, those of runs that were left before as they were signed then.

    Raises:
        LedgerError: an earlier statement is damaged.
    """
    return [_leave(ledger, identity, run, reason) for run in runs]


def tell(statements: list[Withdrawal], send: Callable[[Withdrawal], KeptWithdrawal]) -> list[str]:
    """Sends every statement, and returns the model versions that are marked.

    Raises:
        WithdrawalUntold: one was not taken; the others were sent all the same.
    """
    models, faults = list[str](), list[str]()
    for statement in statements:
        try:
            models += send(statement).models
        except ConsortiumError as error:
            faults.append(f"{statement.run}: {error}")
    if faults:
        raise WithdrawalUntold(
            f"this institution has withdrawn and its node refuses, but the coordinator does not know it of {len(faults)} of "
            f"{len(statements)} runs ({'; '.join(faults)}); run the command again"
        )
    return models


def _leave(ledger: Ledger, identity: Identity, run: str, reason: str) -> Withdrawal:
    decisions = Decisions(ledger.home)
    if (kept := decisions.withdrawal(run)) is not None:
        return kept
    statement = Withdrawal(run, identity.name, reason, ledger.now()).signed_by(identity.sign)
    decisions.withdraw(statement)
    return statement
