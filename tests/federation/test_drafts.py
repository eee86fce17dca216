"""The acceptance of drafts is a figure of the first and the last evaluation, summed over the institutions that are in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocols.schedule import planned_sums
from protocols.terms import Terms
from tests.federation.federation import CONFIG, Federation, make_plan

TRAINABLE = {"lora_rank": 2, "targets": ["attention"], "experts": "none"}
WITH_MODULE = replace(CONFIG, num_nextn_predict_layers=1)


def test_acceptance_of_all_is_known_before_and_after_training_alone(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_plan(trainable=TRAINABLE, rounds=3), config=WITH_MODULE)
    run = federation.run().run
    figures = [dict(one.figures) for one in federation.registry.rounds(run)]
    accepted = sum(3 + ord(name[0]) % 5 for name in federation.names)
    federation.close()
    assert figures == [{"acceptance": accepted / 64}, {}, {}, {"acceptance": accepted / 64}]


@pytest.mark.parametrize(("changes", "modules"), [({"mtp": False}, 1), ({}, 0)])
def test_no_lane_counts_drafts_where_no_module_is_adapted(tmp_path: Path, changes: dict[str, Any], modules: int) -> None:
    plan = make_plan(trainable={**TRAINABLE, **changes})
    federation = Federation(tmp_path, plan, config=replace(CONFIG, num_nextn_predict_layers=modules))
    terms = Terms(plan, federation.adaptation)
    federation.close()
    for planned in planned_sums(plan):
        assert not {"accepted", "drafted"} & {block.name for block in terms.lanes(terms.start(), planned).blocks}
