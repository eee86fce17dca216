"""Ledgers that forgot what was signed, and two that answer for one institution."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from client.errors import LedgerError
from client.ledger import Ledger
from tests.federation.attacks.adversary import Lanes
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.scene import OTHERS, VICTIM, Scene, proposed, stolen, total_of, without
from tests.federation.attacks.weakened import weakened
from tests.federation.federation import NAMES, _now


def after_a_restore(scene: Scene) -> Lanes:
    """The difference of two sums over sets that differ in the victim: in between, the others' databases are put back from a backup."""
    epoch = scene.set_up(NAMES)
    first, second = (scene.manifest(epoch, 0, "evaluate", slot) for slot in (0, 1))
    homes = {name: scene.federation.nodes[name].ledger.home for name in OTHERS}
    for home in homes.values():
        with closing(sqlite3.connect(home / "ledger.db")) as live, closing(sqlite3.connect(home / "backup.db")) as copy:
            live.backup(copy)
    whole = total_of(scene, epoch, first, proposed(scene, epoch, first))
    for name, home in homes.items():
        scene.federation.nodes[name].ledger.close()
        (home / "ledger.db").rename(home / "newest.db")
        (home / "backup.db").rename(home / "ledger.db")
        scene.federation.nodes[name] = replace(scene.federation.nodes[name], ledger=Ledger.open(home, _now))
    return np.asarray(whole - total_of(scene, epoch, second, without(proposed(scene, epoch, second), VICTIM)))


def test_restored_ledger(stage: Stage) -> None:
    """To have a second set signed: whoever runs the institutions puts their databases back from backups, and they forget the first."""
    with weakened("client.ledger.check_promises"):
        twin = stage()
        assert stolen(twin, after_a_restore(twin))
        twin.breaks("I-3")
    scene = stage()
    with pytest.raises(LedgerError, match="it is an older copy, and must not be used to answer"):
        after_a_restore(scene)
    home = scene.federation.nodes["bea"].ledger.home
    (home / "newest.db").rename(home / "ledger.db")
    scene.federation.nodes["bea"] = replace(scene.federation.nodes["bea"], ledger=Ledger.open(home, _now))
    scene.finish_sum()
