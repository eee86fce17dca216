"""An institution loses its disk in the middle of a run and restores its ledger: the run goes on, and later with it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.backup import write_backup
from client.institution import Membership
from client.ledger import Ledger
from client.restoring import restore
from client.verify import verify_ledger
from coordinator.events import Event, RoundFinished
from coordinator.registry.records import Run
from protocols.plan import Plan
from protocols.privacy.accounting import epsilon
from tests.federation.federation import Federation, _now, make_plan
from tests.federation.private_plans import LOCAL, SMALL, private_plan

LOST = "bea"
PLANS: dict[str, Plan] = {"experts": make_plan(rounds=4), "no experts": make_plan(rounds=4, trainable=SMALL)}


class Loses:
    """Backs the ledger up after one round, and loses the disk after another."""

    def __init__(self, made: Federation, backup: int, loss: int) -> None:
        self._made, self._backup, self._loss = made, backup, loss

    def __call__(self, event: Event) -> None:
        if isinstance(event, RoundFinished) and event.round == self._backup:
            write_backup(self.home, self.file, with_personal=True)
        if isinstance(event, RoundFinished) and event.round == self._loss:
            node = self._made.nodes[LOST]
            node.ledger.close()
            self.home.rename(self.home.with_name("lost"))
            restore(self.file, self.home, None, _now)
            self._made.nodes[LOST] = replace(node, ledger=Ledger.open(self.home, _now))

    @property
    def home(self) -> Path:
        return self._made.directory / "institutions" / LOST

    @property
    def file(self) -> Path:
        return self._made.directory / "backup"


def missing(made: Federation, run: str) -> list[tuple[int, str]]:
    rounds = made.registry.rounds(run)
    return [(one.number, part.reason) for one in rounds for part in one.contributions if part.institution == LOST and part.missing_from]


def audited(made: Federation) -> list[str]:
    key = made.operator_identity.public_key
    return verify_ledger(made.nodes[LOST].ledger, Membership(LOST, made.roster, key)).failed


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
def test_run_goes_on_and_later_with_the_restored_institution(tmp_path: Path, plan: str) -> None:
    made = Federation(tmp_path, PLANS[plan])
    result = made.run(Loses(made, backup=0, loss=1))
    away = dict(missing(made, result.run))
    assert list(away) == [2, 3] and "the ledger of bea was restored" in "".join(away.values())
    assert not made.nodes[LOST].ledger.returning.is_only_followed(result.run)
    position, others = made.nodes[LOST].ledger.position(result.run), made.nodes["ada"].ledger.position(result.run)
    assert position == others
    assert audited(made) == []
    made.close()


@pytest.mark.slow
def test_private_run_is_charged_for_what_the_ledger_forgot(tmp_path: Path) -> None:
    plan = private_plan(LOCAL, rounds=4)
    made = Federation(tmp_path, plan)
    result = made.run(Loses(made, backup=0, loss=2))
    ledger = made.nodes[LOST].ledger.privacy
    accepted = ledger.accepted(result.run)
    assert accepted is not None
    charged = [spend for one in ledger.charges() for spend in one.spends]
    assert epsilon(charged, 1e-5) >= epsilon(accepted.whole, 1e-5)
    assert {one.round: one.state for one in ledger.charges()} == {1: "spent", 2: "spent", 3: "spent", 4: "spent"}
    assert [number for number, _ in missing(made, result.run)] == [3, 4]
    assert audited(made) == []
    made.close()


def test_three_institutions_wait_and_say_for_whom(tmp_path: Path) -> None:
    made = Federation(tmp_path, make_plan(rounds=2, trainable=SMALL), names=("ada", "bea", "cyd"))
    with pytest.raises(Exception, match="the ledger of bea was restored"):
        made.run(Loses(made, backup=0, loss=1))
    rejoined: Any = made.nodes[LOST].ledger.returning
    (run,) = made.registry.runs()
    assert isinstance(run, Run) and rejoined.is_older(run.run)
    rejoined.rejoin("another")
    assert not rejoined.is_only_followed("another")
    made.close()
