"""A figure of training records that travels in a private run beside the noise."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.errors import PrivacyError
from protocols.plan import Plan
from protocols.schedule import learning_rate
from protocols.sums import update
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.scene import Scene
from tests.federation.attacks.weakened import weakened
from tests.federation.private_plans import LOCAL, private_plan

PLAN = private_plan(LOCAL | {"epsilon": 1.0}, rounds=1)
THREE = ("ada", "bea", "cyd")


def with_loss(plan: Plan, round_number: int, trained: Any, experts: Any) -> Any:
    """A later version's lanes, in which somebody thought of the loss and not of privacy."""
    return update.blocks(plan.training, learning_rate(plan, round_number), trained, experts)


def test_exact_lane_in_private_run(stage: Stage) -> None:
    """To read exact losses and counts of a private run: they are lanes again, as in other runs."""
    with weakened("protocols.sums.private_update.blocks", by=with_loss):
        with weakened("protocols.terms.check_lanes"):
            assert {"loss", "examples"} <= lanes(stage(plan=PLAN, greet=False))
        with pytest.raises(PrivacyError, match="the lane loss has no declared sensitivity"):
            lanes(stage(plan=PLAN, greet=False))
    assert not {"loss", "examples"} & lanes(stage(plan=PLAN, greet=False))


def lanes(scene: Scene) -> set[str]:
    return {block.name for block in scene.terms.lanes(scene.state, scene.planned(1, "update")).blocks}
