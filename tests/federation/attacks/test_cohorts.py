"""Cohorts whose honest inputs are too few: one that is alone among those who collude is read off the total."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from protocols.roster import Roster
from tests.federation.attacks.adversary import Lanes
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.scene import VICTIM, Scene, proposed, stolen, total_of
from tests.federation.attacks.weakened import weakened

HONEST, SYBILS = ("ada", "bea", "cyd"), ("zed", "zoe")


def rest_of_total(scene: Scene, members: tuple[str, ...], survivors: tuple[str, ...], **terms: int) -> Lanes:
    """The total of an epoch's survivors less what the colluding ones put in."""
    epoch = scene.set_up(members, **terms)
    manifest = scene.manifest(epoch, 0, "evaluate", 0)
    total = total_of(scene, epoch, manifest, proposed(scene, epoch, manifest, survivors))
    known = [scene.adversary.inputs[name, manifest.hash] for name in survivors if name in scene.adversary.colluders]
    return np.asarray(total - np.sum(known, 0, dtype=np.uint32))


def test_c_declared_zero(stage: Stage) -> None:
    """To open a sum of two, one of which colludes: an epoch that allows for no colluding member has a threshold of two."""
    asked = (("ada", "cyd", "dov"), ("ada", "dov"))
    with weakened("client.epochs.check_cohort", "client.sums.check_cohort"):
        twin = stage()
        assert stolen(twin, rest_of_total(twin, *asked, colluding=0, threshold=2))
        twin.breaks("I-4")
    scene = stage()
    with scene.refused(VICTIM, "the cohort allows for 0 colluding members; plan and policy of ada for 1"):
        rest_of_total(scene, *asked, colluding=0, threshold=2)
    scene.finish_sum()


def test_n3_c2_floor(stage: Stage) -> None:
    """To open a sum of one: of three institutions two may collude, so that a threshold of three leaves one honest input."""
    members = ("ada", "cyd", "dov")
    with weakened("protocols.epoch.terms.check_threshold"):
        twin = stage(colluders=members[1:])
        assert stolen(twin, rest_of_total(twin, members, members, colluding=2, threshold=3))
        twin.breaks("I-4")
    scene = stage(colluders=members[1:])
    with scene.refused(VICTIM, "a threshold of 3 among 3 institutions with 2 colluding is unsafe"):
        rest_of_total(scene, members, members, colluding=2, threshold=3)
    scene.finish_sum()


def test_invented_institutions(stage: Stage) -> None:
    """To be all others: the coordinator's roster has institutions that nobody has heard of, and an epoch of them and the victim."""
    members = (VICTIM, *SYBILS)
    twin = stage(names=(*HONEST, *SYBILS), colluders=SYBILS)  # whose nodes took over the roster that they were offered
    assert stolen(twin, rest_of_total(twin, members, members))
    scene = stage(names=(*HONEST, *SYBILS), colluders=SYBILS)
    own = Roster(tuple(entry for entry in scene.federation.roster.entries if entry.name in HONEST))
    scene.federation.nodes |= {name: replace(scene.federation.nodes[name], roster=own) for name in HONEST}
    with scene.refused(VICTIM, "zed, zoe is not on the roster of ada"):
        rest_of_total(scene, members, members)
    scene.federation.roster = own
    scene.finish_sum(HONEST)
