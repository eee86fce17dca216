"""Ledgers that forgot what was signed, and two that answer for one institution."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from client.errors import LedgerError
from client.ledger import Ledger
from client.node import Node
from coordinator.link import Subject
from protocols.epoch import KeysMessage, KeysState, SharesMessage
from protocols.epoch.channel import agree, open_sealed
from protocols.pack import pack
from protocols.suites import SUITES
from tests.federation.attacks.adversary import Lanes
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.scene import CLASSICAL, OTHERS, VICTIM, Scene, proposed, stolen, total_of, without
from tests.federation.attacks.weakened import weakened
from tests.federation.federation import NAMES, _now
from tests.federation.scripted import taken


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
        scene.restart(name)
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
    scene.restart("bea")
    scene.finish_sum()


def cloned(node: Node, home: Path) -> Node:
    """A second machine of one institution: its key, and its ledger as a restore brings it back."""
    home.mkdir()
    with closing(sqlite3.connect(node.ledger.home / "ledger.db")) as live, closing(sqlite3.connect(home / "ledger.db")) as copy:
        live.backup(copy)
        copy.execute("UPDATE meta SET value = '2' WHERE name = 'incarnation'")
        copy.commit()
    identifier = (node.ledger.home / "incarnation").read_text().split()[0]
    (home / "incarnation").write_text(f"{identifier} 2\n")
    return replace(node, ledger=Ledger.open(home, _now))


def dealt_twice(scene: Scene) -> bool:
    """Whether the difference of two sealed dealings for one institution is that of the shares in them."""
    manifest = scene.terms_of(NAMES)
    keys = {name: taken(name, scene.announce(name, manifest)).parts["message"] for name in NAMES}
    original = scene.federation.nodes[VICTIM]
    clone = cloned(original, scene.federation.directory / "clone")
    dealt = []
    for scene.federation.nodes[VICTIM] in (original, clone):
        subject, messages = Subject(0, "epoch", manifest.epoch, manifest.hash), {"messages": pack(keys)}
        dealt.append(scene.must(VICTIM, subject, "query.epoch_shares", messages).parts["message"])
    parts = [SharesMessage.from_bytes(data).parts[manifest.number("bea") - 1] for data in dealt]
    one, other = (part.sealed for part in parts)
    begun = scene.adversary.secrets["bea", "r1", manifest.epoch, "keys"]
    assert isinstance(begun, KeysState) and one != other
    secret = agree(X25519PrivateKey.from_private_bytes(begun.seed), KeysMessage.from_bytes(keys[VICTIM]))
    shares = (open_sealed(secret + part.ciphertext, manifest, VICTIM, "bea", part.sealed) for part in parts)
    return all(a ^ b == c ^ d for a, b, c, d in zip(one, other, *shares, strict=False))


def test_cloned_node(stage: Stage) -> None:
    """To have one institution seal two dealings under one key: a second machine goes on with the epoch that the first one began."""
    unsalted = weakened("protocols.epoch.members.encapsulate", by=lambda *_: (bytes(32), bytes(32)))
    with weakened("protocols.epoch.members.check_incarnation"), unsalted:
        assert dealt_twice(stage(plan=CLASSICAL, suites=SUITES))
    with weakened("protocols.epoch.members.check_incarnation"):
        assert not dealt_twice(stage(plan=CLASSICAL, suites=SUITES))
    scene = stage(plan=CLASSICAL, suites=SUITES)
    original = scene.federation.nodes[VICTIM]
    with scene.refused(VICTIM, "ada began this epoch with incarnation 1 of its ledger and goes on with 2"):
        dealt_twice(scene)
    scene.federation.nodes[VICTIM].ledger.close()
    scene.federation.nodes[VICTIM] = original
    scene.finish_sum()
