"""Parts of an update that one institution alone trained: without care they are its own in everybody's total."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.encoding import rescaled
from tests.federation.attacks.adversary import Lanes
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.scene import VICTIM, Scene, opened_by
from tests.federation.attacks.weakened import weakened
from tests.federation.federation import NAMES, make_plan
from tests.federation.test_parts import ALL, FIVE, SIX, routed

PLAN = make_plan(rounds=1, trainable=ALL)
RARE, LEFT = 2, ("ada", "cyd", "dov", "eve")  # an expert; who stays to the end
SMALL = ("cyd", "dov", "eve", "flo")  # a later epoch without the victim and one that trained less


def lanes_of_the_rare_expert(scene: Scene) -> tuple[Lanes, Lanes]:
    """Its lanes in the total, less the colluder's, and in the victim's vector, when the third contributor dropped out after the count."""
    for name, work in scene.federation.works.items():
        routed(work, {0: 5, RARE: 5 if name in (VICTIM, "bea", "eve") else 0})
    scene.follow(scene.sum(scene.set_up(FIVE), 0, "evaluate", 0), FIVE)
    epoch = scene.set_up(FIVE)
    scene.follow(scene.sum(epoch, 1, "parts", 0), FIVE)
    outcome = scene.sum(epoch, 1, "update", 1, LEFT)
    wanted = lanes_of(scene, RARE)
    victims, known = (scene.adversary.inputs[name, outcome.transcript.manifest.hash] for name in (VICTIM, "eve"))
    return np.asarray(outcome.lanes - known)[wanted], victims[wanted]


def lanes_of(scene: Scene, expert: int) -> NDArray[np.bool_]:
    """Which lanes of the update hold an expert's factors."""
    layout = scene.federation.adaptation.layout(scene.state.experts)
    own = {f"delta.{tensor.name}" for tensor in layout if tensor.expert is not None and tensor.expert[1] == expert}
    blocks = scene.terms.lanes(scene.state, scene.planned(1, "update")).blocks
    return np.concatenate([np.full(block.size, block.name in own) for block in blocks])


def test_expert_contributors_drop_between_sums(stage: Stage) -> None:
    """To be alone with the victim in an expert: of three contributors one colludes, and one is dropped after all were counted."""
    cast = {"names": FIVE, "colluders": ("eve",), "plan": PLAN}
    with weakened("protocols.parts.fewest_contributors", by=lambda colluding, *_: colluding + 2):  # as if nobody could drop out
        twin = stage(**cast)
        total, own = lanes_of_the_rare_expert(twin)
        assert np.array_equal(total, own) and own.any()
        twin.breaks("I-5")
    scene = stage(**cast)
    total, own = lanes_of_the_rare_expert(scene)
    assert not total.any() and not own.any(), "zero before it was masked"
    scene.finish_sum(LEFT)


def difference_of_two_epochs(scene: Scene) -> tuple[Lanes, Lanes]:
    """The lanes of an expert in the difference of two totals of one update, and in the victim's vector; bea did not train it."""
    for name, work in scene.federation.works.items():
        routed(work, {0: 5, RARE: 0 if name == "bea" else 5})
    scene.follow(scene.sum(scene.set_up(SIX), 0, "evaluate", 0), SIX)
    epoch = scene.set_up(SIX)
    scene.follow(scene.sum(epoch, 1, "parts", 0), SIX)
    large = opened_by(scene, epoch, 1, ("ada", "bea", "cyd"), "flo")
    small = opened_by(scene, scene.set_up(SMALL), 1, ("dov", "eve"), "flo")
    small = rescaled(small, scene.terms.lanes(scene.state, scene.planned(1, "update")), len(SMALL), len(SIX))
    wanted = lanes_of(scene, RARE)
    victims = next(plain for (name, _), plain in scene.adversary.inputs.items() if name == VICTIM and plain.size == wanted.size)
    return np.asarray(large - small)[wanted], victims[wanted]


def test_update_in_two_epochs_without_a_common_signer(stage: Stage) -> None:
    """To be alone with the victim in an expert: a later epoch of fewer opens the update over another set, which others sign."""
    cast = {"names": SIX, "colluders": ("flo",), "plan": PLAN}
    with weakened("protocols.parts.update_threshold", by=lambda *_: 0):
        twin = stage(**cast)
        difference, own = (lanes.view(np.int32) for lanes in difference_of_two_epochs(twin))
        assert np.abs(difference - own).max() <= len(SIX) < np.abs(own).max(), "up to the rounding of each"
        twin.breaks("I-5")
    scene = stage(**cast)
    with scene.refused("dov", "an epoch in which 3 institutions open a sum may not open the update after a pre-round of 6"):
        difference_of_two_epochs(scene)


def lanes_of_slice(scene: Scene, place: int) -> NDArray[np.bool_]:
    """Which lanes of the first update hold a slice of a factor B."""
    blocks = scene.terms.lanes(scene.state, scene.planned(1, "update")).blocks
    column = {block.name: np.arange(block.size) % block.shape[-1] == place for block in blocks if "lora_B" in block.name}
    return np.concatenate([column.get(block.name, np.zeros(block.size, np.bool_)) for block in blocks])


def top_slices(scene: Scene) -> tuple[Lanes, Lanes]:
    """The slices that the victim alone holds, in the total of an update and in the victim's vector."""
    for name, rank in {VICTIM: 4, "bea": 2, "cyd": 2, "dov": 1}.items():
        scene.federation.works[name].max_rank = rank
    scene.follow(scene.sum(scene.set_up(NAMES), 0, "evaluate", 0), NAMES)
    epoch = scene.set_up(NAMES)
    scene.follow(scene.sum(epoch, 1, "parts", 0), NAMES)
    outcome = scene.sum(epoch, 1, "update", 1)
    wanted = lanes_of_slice(scene, 2) | lanes_of_slice(scene, 3)
    return outcome.lanes[wanted], scene.adversary.inputs[VICTIM, outcome.transcript.manifest.hash][wanted]


def test_top_rank_alone(stage: Stage) -> None:
    """To read the slices of the one institution with the largest rank: nobody else's are in these lanes of the total."""
    nested = {"lora_rank": 4, "targets": ["lm_head"], "experts": "none", "ranks": "nested"}
    plan = make_plan(rounds=1, trainable=nested)
    with weakened("protocols.ranks.fewest_contributors", by=lambda *_: 1):  # as if a slice of one were nobody's own
        total, own = top_slices(stage(plan=plan))
        assert np.array_equal(total, own) and own.any()
    scene = stage(plan=plan)
    total, own = top_slices(scene)
    assert not total.any() and not own.any(), "zero before it was masked"
    assert scene.state.pre_round is not None and scene.state.pre_round.rank == 1, "four of four hold it, and four are needed"
    scene.finish_sum()
