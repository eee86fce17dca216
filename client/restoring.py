"""`consortium client restore`: a ledger from a backup, as a new incarnation that has forgotten its open epochs and may have forgotten more.

What it forgot it does not guess. Privacy is charged as if all of it had left, and of sums it takes part in those alone that are later than
any that it can have promised (`client.returning`).
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from client.backup import LEDGER, SCRUB, unpack_backup
from client.errors import BackupError
from client.ledger import Ledger
from client.ledger_file import begin_next_incarnation
from client.ledger_tables import VERSION, version_of
from client.only_node import LOCK, only_node
from client.privacy_ledger import LOST, RESERVED, SPENT, Charge
from protocols.errors import PrivacyError
from protocols.files import sync_directory
from protocols.plan import Plan, plan_from_canonical
from protocols.privacy.accounting import LARGEST_EPSILON, Release
from protocols.privacy.calibration import calibrate
from protocols.service import SpentRun

ROUNDS_UNDER_WAY = 1  # beyond the last that the registry knows: its input may have left


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore came to."""

    incarnation: int
    runs: tuple[str, ...]  # that the backup knows
    unknown: tuple[str, ...]  # private ones that the registry alone knows
    online: bool


def restore(file: Path | None, home: Path, spent: Sequence[SpentRun] | None, clock: Callable[[], datetime]) -> Restored:
    """Makes `home` from a backup, or without one; interrupted, it is repeated and nothing was changed.

    Args:
        file: the backup; None for a ledger that knows nothing, and only follows every run.
        home: the node's, which must not be there, or be empty, but for the lock of a node that found no ledger.
        spent: what the registry says this institution may have spent; None if it was not asked, and every private run is charged whole.
        clock: aware; the new incarnation is its time in seconds, so that two restores of one backup are two incarnations.

    Raises:
        BackupError: something stands at `home`, or the file is no backup of this version.
    """
    if home.exists() and not _is_empty(home):
        raise BackupError(
            f"{home} is not empty, and an older ledger must not replace one that is whole; if it is damaged, move the folder away first"
        )
    draft = home.with_name(f".{home.name}.restored")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        restored = _drafted(file, draft, spent, clock)
        if home.exists():
            with only_node(home):  # a node that is started just now finds no ledger, or this one
                (home / LOCK).unlink()
                home.rmdir()
        draft.rename(home)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    sync_directory(home.parent)
    return restored


def _is_empty(home: Path) -> bool:
    """Also where a node was started without its ledger: it leaves the file that locks the home, and nothing else."""
    return all(path.name == LOCK for path in home.iterdir())


def _drafted(file: Path | None, draft: Path, spent: Sequence[SpentRun] | None, clock: Callable[[], datetime]) -> Restored:
    draft.mkdir(parents=True, mode=0o700)
    if file is None:
        Ledger.open(draft, clock).close()
    else:
        unpack_backup(file, draft)
    _begin(file or draft, draft, clock)
    with closing(Ledger.open(draft, clock)) as ledger:
        ledger.returning.begin(ledger.runs())
        unknown = _charge(ledger, spent)
        return Restored(ledger.incarnation, ledger.runs(), unknown, spent is not None)


def _begin(file: Path, draft: Path, clock: Callable[[], datetime]) -> None:
    """Takes out what must not be gone on with, whoever made the copy, and numbers the ledger anew."""
    with closing(sqlite3.connect(draft / LEDGER, isolation_level=None)) as database:
        try:
            sound = database.execute("PRAGMA integrity_check").fetchone()[0] == "ok" and version_of(database) == VERSION
        except sqlite3.DatabaseError:
            sound = False
        if not sound:
            raise BackupError(f"{file}: its ledger is damaged or of another version; restore with the version that made it, then update")
        database.executescript(SCRUB)
        begin_next_incarnation(database, draft, int(clock().timestamp()))


def _charge(ledger: Ledger, spent: Sequence[SpentRun] | None) -> tuple[str, ...]:
    """The larger of backup and registry, run by run; returns the private runs that the ledger does not know."""
    by_run = {one.run: one for one in spent or ()}
    with ledger.transaction():
        for run in ledger.runs():
            plan = plan_from_canonical(ledger.plan(run) or b"")
            if plan.privacy is None:
                continue
            rounds = plan.rounds if spent is None else by_run[run].rounds + ROUNDS_UNDER_WAY if run in by_run else ROUNDS_UNDER_WAY
            ledger.privacy.charge_lost(run, plan.privacy.unit, range(rounds + 1), RESERVED)
            if run in by_run:
                ledger.privacy.charge_lost(run, plan.privacy.unit, range(by_run[run].rounds + 1), SPENT)
        unknown = [one for one in by_run.values() if ledger.privacy.accepted(one.run) is None]
        for one in unknown:
            ledger.privacy.charge(_whole(one, ledger.now()))
    return tuple(one.run for one in unknown)


def _whole(one: SpentRun, at: str) -> Charge:
    """What the registry says was spent at most, as one Gaussian mechanism of that epsilon and delta."""
    plan: Plan = plan_from_canonical(one.plan)
    try:
        noise = calibrate(min(one.epsilon, LARGEST_EPSILON), one.delta, 1.0, 1)
    except PrivacyError as error:
        raise BackupError(f"the registry says of run {one.run} what cannot be accounted for ({error}); tell the operator") from None
    return Charge(one.run, LOST, plan.privacy.unit if plan.privacy else "", (Release(noise),), SPENT, at)
