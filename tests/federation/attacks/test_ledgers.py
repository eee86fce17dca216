"""Ledgers that forgot what was signed, and two that answer for one institution."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from client.backup import write_backup
from client.errors import LedgerError
from client.ledger import Ledger
from client.node import Node
from client.restoring import restore
from coordinator.link import Subject
from protocols.epoch import KeysMessage, KeysState, SharesMessage
from protocols.epoch.channel import agree, open_sealed
from protocols.pack import pack
from protocols.suites import SUITES
from tests.federation.attacks.adversary import Lanes
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.scene import CLASSICAL, COLLUDER, OTHERS, VICTIM, Scene, proposed, small_plan, stolen, total_of, without
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


def forget(scene: Scene, *names: str) -> None:
    """These institutions lose their homes and restore them from backups that `backed_up` made."""
    for name in names:
        node = scene.federation.nodes[name]
        node.ledger.close()
        node.ledger.home.rename(node.ledger.home.with_name(f"{name}.lost"))
        restore(node.ledger.home.with_name(f"{name}.backup"), node.ledger.home, None, _now)
        scene.federation.nodes[name] = replace(node, ledger=Ledger.open(node.ledger.home, _now))


def backed_up(scene: Scene, *names: str) -> None:
    for name in names:
        home = scene.federation.nodes[name].ledger.home
        write_backup(home, home.with_name(f"{name}.backup"), with_personal=False)


def after_a_real_restore(scene: Scene) -> Lanes:
    """The difference of two sums over sets that differ in the victim: one honest institution forgot the first, one never signed it."""
    backed_up(scene, "bea", COLLUDER)
    epoch, signers = scene.set_up(NAMES), (VICTIM, "bea", COLLUDER)
    first = scene.manifest(epoch, 0, "evaluate", 0)
    whole = scene.total(epoch, first, scene.certify(epoch, first, proposed(scene, epoch, first), signers), signers)[0]
    forget(scene, "bea", COLLUDER)
    epoch = scene.set_up(NAMES)
    second = scene.manifest(epoch, 0, "evaluate", 0)
    return np.asarray(whole - total_of(scene, epoch, second, proposed(scene, epoch, second, OTHERS)))


def test_restored_ledger_from_an_old_backup(stage: Stage) -> None:
    """To have a second set signed by an institution that lost its disk: its backup is older than what it signed."""
    with weakened("client.sums.check_promises_known"):
        twin = stage()
        assert stolen(twin, after_a_real_restore(twin))
        twin.breaks("I-3")
    scene = stage()
    with scene.refused(
        "bea", "the ledger of bea was restored: it follows run r1 and sends nothing until an update was finished without it"
    ):
        after_a_real_restore(scene)


def test_restored_ledger_keeps_the_promises_of_its_backup(stage: Stage) -> None:
    """The same, where the backup is newer than what was signed, and nothing else is checked."""
    with weakened("client.sums.check_promises_known"):
        scene = stage()
        epoch = scene.set_up(NAMES)
        first = scene.manifest(epoch, 0, "evaluate", 0)
        total_of(scene, epoch, first, proposed(scene, epoch, first))
        backed_up(scene, *OTHERS)
        forget(scene, *OTHERS)
        epoch = scene.set_up(NAMES)
        second = scene.manifest(epoch, 0, "evaluate", 0)
        with scene.refused("bea", "bea has already signed another set for this sum"):
            total_of(scene, epoch, second, proposed(scene, epoch, second, OTHERS))


def test_restored_ledger_takes_part_after_an_update_without_it(stage: Stage) -> None:
    """What it is shown of epochs that it does not know, of however many sums, is no sign that it promised nothing later."""
    scene = stage(plan=small_plan(rounds=3))
    backed_up(scene, "bea")
    known = []
    for planned in ((0, "evaluate"), (1, "update")):
        outcome = scene.sum(scene.set_up(NAMES), *planned, 0)
        known.append((outcome, scene.follow(outcome, NAMES)))
    forget(scene, "bea")
    for outcome, answers in known:
        assert not scene.hand_over("bea", outcome.transcript, outcome.after, answers).refusal
    others = ("ada", "cyd", "dov")
    for planned in ((1, "evaluate"), (2, "update")):
        epoch = scene.set_up(NAMES)
        assert "follows run r1 and sends nothing" in scene.send("bea", epoch, scene.manifest(epoch, *planned, 5)).refusal
        scene.follow(scene.sum(epoch, *planned, 0, names=others), NAMES)
    scene.follow(scene.sum(scene.set_up(NAMES), 2, "evaluate", 0), NAMES)


def test_cloned_node_from_a_backup(stage: Stage) -> None:
    """A second machine of one institution, restored beside the first: it has no part in the epochs of the first, in whatever stage."""
    scene = stage()
    epoch, begun = scene.set_up(NAMES), scene.terms_of(NAMES)
    taken(VICTIM, scene.announce(VICTIM, begun))
    original, home = scene.federation.nodes[VICTIM], scene.federation.directory / "clone"
    backed_up(scene, VICTIM)
    restore(original.ledger.home.with_name(f"{VICTIM}.backup"), home, None, _now)
    scene.federation.nodes[VICTIM] = replace(original, ledger=Ledger.open(home, _now))
    with weakened("client.sums.check_promises_known"):
        assert "is not a member of epoch 1" in scene.send(VICTIM, epoch, scene.manifest(epoch, 0, "evaluate", 0)).refusal
    assert "epoch 2 of run r1 was begun before" in scene.announce(VICTIM, begun).refusal
    scene.federation.nodes[VICTIM].ledger.close()
    scene.federation.nodes[VICTIM] = original
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
