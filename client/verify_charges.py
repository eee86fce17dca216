"""Of an institution's own ledger: that what it sent in private runs is charged, as it accepted these runs."""

from __future__ import annotations

from collections import Counter

from client.errors import LedgerError
from client.ledger import Ledger
from client.privacy_ledger import SPENT
from client.promises import claimed_root
from protocols.audit import counted
from protocols.transcript import Transcript


def verify_charges(ledger: Ledger, run: str) -> str:
    """Looks at every finished update; empty for a run without [privacy].

    Raises:
        LedgerError: one that this institution sent is not charged, or for less than it was accepted to cost.
    """
    accepted = ledger.privacy.accepted(run)
    if accepted is None:
        return ""
    charged = {one.round: one.spends for one in ledger.privacy.charges() if one.run == run and one.state == SPENT}
    sent = [number for number in _sent(ledger, run) if number in accepted.spends]
    for number in sorted({*sent, *({0} & accepted.spends.keys() if sent else set())}):
        # More stands there where a restored ledger charged what it may have forgotten.
        if not Counter(charged.get(number, ())) >= Counter(accepted.spends[number]):
            raise LedgerError(f"round {number} of run {run} was sent and is not charged as it was accepted; restore the institution's home")
    return (
        f"{counted(len(sent), 'update')} of run {run}, which adds noise, {'is' if len(sent) == 1 else 'are'} charged as accepted."
        if sent
        else ""
    )


def _sent(ledger: Ledger, run: str) -> list[int]:
    found = []
    for finished in ledger.finished_sums(run):
        data = ledger.transcript(finished.transcript) if finished.sum != "evaluate" else None
        if data is not None and claimed_root(ledger, Transcript.from_bytes(data).manifest) is not None:
            found.append(finished.round)
    return found
