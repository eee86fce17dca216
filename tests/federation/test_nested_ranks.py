"""Whole runs of institutions with different ranks: what too few hold stays as it is, and everybody comes to the same state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.events import SumFinished
from protocols.state import state_hash
from tests.federation.federation import NAMES, Federation, make_plan

FIVE = (*NAMES, "eve")
RANKS = {"ada": 6, "bea": 6, "cyd": 4, "dov": 4, "eve": 2}
NESTED = {"lora_rank": 6, "targets": ["lm_head"], "experts": "none", "ranks": "nested"}
A, B = "lm_head.lora_A.weight", "lm_head.lora_B.weight"


def federation_of(directory: Path, trainable: dict[str, Any] = NESTED, **tables: Any) -> Federation:
    made = Federation(directory, make_plan(trainable=trainable, **{"rounds": 1} | tables), FIVE)
    for name, work in made.works.items():
        work.max_rank = RANKS[name]
    return made


def agreed(federation: Federation, run: str) -> set[bytes]:
    positions = [federation.nodes[name].ledger.position(run) for name in FIVE]
    return {position.state_hash for position in positions if position}


def test_slices_that_enough_institutions_hold_are_summed(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, rounds=2)
    result = federation.run()
    assert result.state.pre_round is not None and result.state.pre_round.rank == 4, "five hold 2 slices, four hold 4, and four are needed"
    assert [event.kind for event in federation.of(SumFinished)] == ["evaluate", *["parts", "update", "evaluate"] * 2]
    assert agreed(federation, result.run) == {state_hash(result.state)}
    a = result.state.tensors[A].astype(np.float64)
    assert np.abs(a @ a.T - np.eye(len(a))).max() < 1e-6, "re-balanced after the A-round, so that leading slices are the best"
    federation.close()


@pytest.mark.parametrize("optimizer", ["none", "adam"])
def test_slices_beyond_stay_where_they_were(tmp_path: Path, optimizer: str) -> None:
    federation = federation_of(tmp_path, aggregation={"server_optimizer": optimizer})
    result = federation.run()
    start = federation.adaptation.initial({})
    columns = (result.state.tensors[B] != start[B]).any(0)
    assert columns.tolist() == [True] * 4 + [False] * 2
    federation.close()


def test_dropout_before_the_count_cuts_further(tmp_path: Path) -> None:
    federation = federation_of(tmp_path)
    federation.fails = lambda name, kind: name == "ada" and kind == "train.sum"
    result = federation.run()
    assert result.state.pre_round is not None and result.state.pre_round.members == FIVE[1:]
    assert result.state.pre_round.rank == 4, "of four institutions three are needed, whichever drops out next"
    federation.close()


def test_experts_have_slices_too(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, {**NESTED, "experts": "all", "expert_rank": 6})
    result = federation.run()
    assert result.state.pre_round is not None and result.state.pre_round.rank == 4
    start, layout = federation.adaptation.initial(result.state.experts), federation.adaptation.layout(result.state.experts)
    moved = {t.expert[1]: (result.state.tensors[t.name] != start[t.name]) for t in layout if t.expert and t.kind == "lora_B"}
    # All but expert 1, which no tokens reach; eve holds two slices, so that the other four are just enough for the rest.
    assert {expert: values.any(0).tolist() for expert, values in moved.items() if values.any()} == {
        expert: [True] * 4 + [False] * 2 for expert in (0, 2, 3)
    }
    federation.close()
