"""Identities that the coordinator exchanges: whoever holds another key than the institution's own is a member in its place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from client.node import Node
from protocols.epoch import EpochManifest
from protocols.identity import Identity
from protocols.roster import Roster
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.scene import VICTIM, Scene, stolen
from tests.federation.attacks.test_cohorts import rest_of_total
from tests.federation.attacks.weakened import weakened
from tests.federation.federation import NAMES

SWAPPED = ("bea", "cyd")


def swap(scene: Scene) -> Roster:
    """The coordinator's roster with keys of its own for two institutions, whose nodes are its own from now on; returns the true one."""
    true, own = scene.federation.roster, {name: Identity(name, name[:1].encode() * 32) for name in SWAPPED}
    entries = (replace(entry, public_key=own[entry.name].public_key) if entry.name in own else entry for entry in true.entries)
    scene.federation.roster = Roster(tuple(entries))
    for name, identity in own.items():
        node = scene.federation.nodes[name]
        scene.federation.nodes[name] = replace(node, identity=identity, roster=scene.federation.roster)
        scene.adversary.colluders |= {name}
    return true


def trusting(scene: Scene) -> Any:
    """The twin takes over whatever keys the coordinator's roster has, as if a rotation needed nobody's acceptance."""

    def take_over(node: Node, _: EpochManifest, __: bytes) -> None:
        object.__setattr__(node, "roster", scene.federation.roster)

    return weakened("client.epochs.check_accepted", "client.sums.check_accepted", by=take_over)


def test_swapped_identity_at_rotation(stage: Stage) -> None:
    """To be two of four: says that bea and cyd have new keys, which are the coordinator's own, and reads ada's input off the total."""
    twin = stage()
    swap(twin)
    with trusting(twin):
        assert stolen(twin, rest_of_total(twin, NAMES, NAMES))
        twin.breaks("I-1")
    scene = stage()
    nodes, true = dict(scene.federation.nodes), swap(scene)
    with scene.refused(VICTIM, "a member has another key on the roster of ada"):
        rest_of_total(scene, NAMES, NAMES)
    scene.federation.nodes, scene.federation.roster = nodes, true
    scene.adversary.colluders -= set(SWAPPED)
    scene.finish_sum()


@pytest.mark.parametrize("offered", [True, False])
def test_refusal_names_whose_key_differs_if_it_is_told_the_keys(stage: Stage, offered: bool) -> None:
    scene = stage()
    swap(scene)
    terms = scene.terms_of(NAMES)
    refusal = scene.announce(VICTIM, terms, scene.federation.roster.to_bytes() if offered else b"").refusal
    assert refusal.startswith("bea, cyd has another key on the roster" if offered else "a member has another key on the roster")
