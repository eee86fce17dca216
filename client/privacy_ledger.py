"""What an institution has spent of its records' privacy over all runs: reserved before training, spent with the first masked byte.

A spend is never taken back. Its unit is the run's: a record, or a group of them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from client.errors import LedgerError
from protocols.errors import PrivacyError
from protocols.privacy.accounting import AnySpend, from_dict, to_dict

TABLES = """
CREATE TABLE IF NOT EXISTS private_runs (run TEXT PRIMARY KEY, terms TEXT NOT NULL, label_counts BLOB) STRICT;
CREATE TABLE IF NOT EXISTS privacy (run TEXT, round INTEGER, unit TEXT NOT NULL, spends TEXT NOT NULL, state TEXT NOT NULL,
  at TEXT NOT NULL, PRIMARY KEY (run, round)) STRICT;
"""
RESERVED, SPENT = "reserved", "spent"
BEFORE_ROUNDS = 0  # the round under which a run's noised label counts are charged
LOST = -1  # the round under which the whole of a run is charged that a restored ledger does not know


@dataclass(frozen=True, slots=True)
class PrivateRun:
    """How one institution takes part in a private run, fixed when it accepts the plan, whatever its records become.

    `spends` are those of each round; round 0 is charged once, before the first training.
    """

    sampling_rate: float  # probability that a unit takes part in a step
    noise_multiplier: float  # of a step's noise; under the distributed mechanism the sum's
    label_noise: float | None  # standard deviation of the noise on label counts, if the plan needs them
    spends: Mapping[int, tuple[AnySpend, ...]]

    @property
    def whole(self) -> list[AnySpend]:
        """Everything that the run may cost."""
        return list(chain.from_iterable(self.spends.values()))


@dataclass(frozen=True, slots=True)
class Charge:
    """One round's cost."""

    run: str
    round: int
    unit: str
    spends: tuple[AnySpend, ...]
    state: str  # RESERVED or SPENT
    at: str


class PrivacyLedger:
    """The ledger's tables of private runs and of their cost; `transaction` is the ledger's, `now` its clock."""

    def __init__(
        self, database: sqlite3.Connection, transaction: Callable[[], AbstractContextManager[None]], now: Callable[[], str]
    ) -> None:
        self._database, self._transaction, self._now = database, transaction, now

    def accept(self, run: str, accepted: PrivateRun) -> None:
        """Fixes the terms on which this institution takes part; those of an earlier call stay."""
        with self._transaction():
            self._database.execute("INSERT OR IGNORE INTO private_runs VALUES (?, ?, NULL)", (run, _to_json(accepted)))

    def accepted(self, run: str) -> PrivateRun | None:
        """None for a run that was not accepted, or has no privacy.

        Raises:
            LedgerError: the row is not readable.
        """
        row = self._database.execute("SELECT terms FROM private_runs WHERE run = ?", (run,)).fetchone()
        return _from_json(row[0]) if row else None

    def keep_label_counts(self, run: str, counts: NDArray[np.float64]) -> None:
        """Noised counts, drawn once for the whole run; where another process drew some, those stay."""
        with self._transaction():
            change = "UPDATE private_runs SET label_counts = ? WHERE run = ? AND label_counts IS NULL"
            self._database.execute(change, (counts.astype("<f8").tobytes(), run))

    def label_counts(self, run: str) -> NDArray[np.float64] | None:
        """What was drawn, float64 [choices]."""
        row = self._database.execute("SELECT label_counts FROM private_runs WHERE run = ?", (run,)).fetchone()
        return np.frombuffer(row[0], "<f8") if row and row[0] is not None else None

    def reserve(self, run: str, round_number: int, unit: str, spends: Sequence[AnySpend]) -> None:
        """Charges a round before it is trained; a round that was charged before, and died, is not charged again.

        Raises:
            LedgerError: what was made of the charge may have left; a second training would be a second cost.
        """
        with self._transaction():
            query = "SELECT 1 FROM privacy WHERE run = ? AND round = ? AND state = ?"
            if self._database.execute(query, (run, round_number, SPENT)).fetchone() is not None:
                raise LedgerError(f"round {round_number} of run {run} was sent before and its vector is gone; it is not trained again")
            self.charge(Charge(run, round_number, unit, tuple(spends), RESERVED, self._now()))

    def spend(self, run: str, round_number: int) -> None:
        """Marks the charges of a run up to a round's as spent: what is made of them may leave.

        Raises:
            LedgerError: the round of a private run was not reserved.
        """
        if self.accepted(run) is None:
            return
        with self._transaction():
            query = "SELECT 1 FROM privacy WHERE run = ? AND round = ?"
            if self._database.execute(query, (run, round_number)).fetchone() is None:
                raise LedgerError(f"round {round_number} of run {run} was trained without a charge; nothing of it leaves")
            change = "UPDATE privacy SET state = ?, at = ? WHERE run = ? AND round IN (?, ?) AND state = ?"
            self._database.execute(change, (SPENT, self._now(), run, BEFORE_ROUNDS, round_number, RESERVED))

    def charge_lost(self, run: str, unit: str, rounds: Collection[int], state: str) -> None:
        """Charges rounds that a restored ledger knows nothing of, as far as the run has them; what is charged already stays as it is.

        Label counts that are not in the ledger may have been drawn: they are charged twice, as they will be drawn again.
        """
        accepted = self.accepted(run)
        known = accepted.spends if accepted is not None else {}
        for number in sorted(set(rounds) & known.keys()):
            again = number == BEFORE_ROUNDS and self.label_counts(run) is None
            self.charge(Charge(run, number, unit, known[number] * (2 if again else 1), RESERVED, self._now()))
            if state == SPENT and number != BEFORE_ROUNDS:
                self.spend(run, number)

    def charge(self, charge: Charge) -> None:
        """Charges a round, unless it was charged before."""
        row = (charge.run, charge.round, charge.unit, json.dumps([to_dict(one) for one in charge.spends]), charge.state, charge.at)
        with self._transaction():
            self._database.execute("INSERT OR IGNORE INTO privacy VALUES (?, ?, ?, ?, ?, ?)", row)

    def charges(self) -> list[Charge]:
        """Every round of every private run, in the order in which they were reserved.

        Raises:
            LedgerError: a row is not readable.
        """
        rows = self._database.execute("SELECT run, round, unit, spends, state, at FROM privacy ORDER BY rowid").fetchall()
        return [Charge(run, number, unit, _spends(text), state, at) for run, number, unit, text, state, at in rows]


def _to_json(accepted: PrivateRun) -> str:
    spends = {number: [to_dict(one) for one in of_round] for number, of_round in accepted.spends.items()}
    return json.dumps([accepted.sampling_rate, accepted.noise_multiplier, accepted.label_noise, spends])


def _from_json(text: str) -> PrivateRun:
    try:
        rate, noise, label_noise, spends = json.loads(text)
        found = {int(number): tuple(from_dict(one) for one in of_round) for number, of_round in spends.items()}
        return PrivateRun(float(rate), float(noise), label_noise, found)
    except (ValueError, TypeError, AttributeError, PrivacyError):
        raise LedgerError("the terms of a private run in the ledger are not readable; restore the institution's home") from None


def _spends(text: str) -> tuple[AnySpend, ...]:
    try:
        return tuple(from_dict(one) for one in json.loads(text))
    except (ValueError, TypeError, AttributeError, PrivacyError):
        raise LedgerError("a charge of privacy in the ledger is not readable; restore the institution's home") from None
