"""Charges of privacy: made once, spent once, never taken back, whoever dies when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from client.errors import LedgerError
from client.ledger import Ledger
from client.privacy_ledger import RESERVED, SPENT, PrivateRun
from client.spending import spending
from protocols.policy import Policy
from protocols.privacy.accounting import Release, SkellamSpend, Spend, epsilon
from tests.federation.federation import Crash

ROUND = Spend(0.1, 2.0, 4)
RUN = PrivateRun(0.1, 2.0, 5.0, {0: (Release(5.0),), 1: (ROUND,), 2: (ROUND,)})


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "home", lambda: datetime(2030, 1, 1, tzinfo=UTC))
    yield opened
    opened.close()


def test_terms_are_fixed_at_the_first_acceptance(ledger: Ledger) -> None:
    ledger.privacy.accept("run", RUN)
    ledger.privacy.accept("run", PrivateRun(1.0, 9.0, None, {}))
    assert ledger.privacy.accepted("run") == RUN and ledger.privacy.accepted("other") is None


def test_a_round_is_charged_once_and_spent_for_ever(ledger: Ledger) -> None:
    ledger.privacy.accept("run", RUN)
    for _ in range(2):  # the second training of a round that died
        ledger.privacy.reserve("run", 1, "record", RUN.spends[1])
    ledger.privacy.reserve("run", 0, "record", RUN.spends[0])
    assert [(one.round, one.state) for one in ledger.privacy.charges()] == [(1, RESERVED), (0, RESERVED)]
    ledger.privacy.spend("run", 1)
    assert [(one.round, one.state) for one in ledger.privacy.charges()] == [(1, SPENT), (0, SPENT)]
    with pytest.raises(LedgerError, match="round 1 of run run was sent before"):  # a further training would be a further cost
        ledger.privacy.reserve("run", 1, "record", RUN.spends[1])
    assert ledger.privacy.charges()[0].spends == (ROUND,)


def test_what_was_not_charged_does_not_leave(ledger: Ledger) -> None:
    ledger.privacy.spend("a run without privacy", 1)
    ledger.privacy.accept("run", RUN)
    with pytest.raises(LedgerError, match="round 1 of run run was trained without a charge"):
        ledger.privacy.spend("run", 1)


def test_charges_and_counts_are_written_together_or_not(ledger: Ledger) -> None:
    ledger.privacy.accept("run", RUN)
    with suppress(Crash), ledger.transaction():
        ledger.privacy.reserve("run", 0, "record", RUN.spends[0])
        ledger.privacy.keep_label_counts("run", np.array([1.0, 2.5]))
        raise Crash
    assert ledger.privacy.charges() == [] and ledger.privacy.label_counts("run") is None
    ledger.privacy.keep_label_counts("run", np.array([1.0, 2.5]))
    ledger.privacy.keep_label_counts("run", np.array([9.0, 9.0]))  # of a process that drew at the same time
    counts = ledger.privacy.label_counts("run")
    assert counts is not None and counts.tolist() == [1.0, 2.5]


def test_spending_composes_all_runs(ledger: Ledger) -> None:
    other = SkellamSpend(0.1, 400.0, 10.0, 100.0, 1)
    ledger.privacy.reserve("run", 1, "record", [ROUND])
    ledger.privacy.reserve("other", 1, "group", [other])
    found = spending(ledger, Policy())
    assert found.epsilon == epsilon([ROUND, other], 1e-5) and found.by_run["run"] == epsilon([ROUND], 1e-5)
    assert found.document()["max_epsilon"] == 10.0 and "unit: group" in "\n".join(found.lines())


def test_a_damaged_charge_is_named(ledger: Ledger) -> None:
    ledger.privacy.reserve("run", 1, "record", [ROUND])
    ledger._write("UPDATE privacy SET spends = '[{}]'")
    with pytest.raises(LedgerError, match="charge of privacy"):
        ledger.privacy.charges()
