"""Whole runs of Fed-SB: bases come from the institutions' first gradients, then cores alone travel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coordinator.events import SumFinished
from protocols.state import state_hash
from tests.federation.federation import NAMES, Crash, Federation, make_plan

PLAN = {"trainable": {"lora_rank": 2, "targets": ["lm_head"], "experts": "none"}, "aggregation": {"rule": "fedsb"}, "rounds": 1}
A, B, R = (f"lm_head.lora_{factor}.weight" for factor in "ABR")


def agreed(federation: Federation, run: str) -> set[bytes]:
    positions = [federation.nodes[name].ledger.position(run) for name in NAMES]
    return {position.state_hash for position in positions if position}


def test_bases_are_agreed_and_stay_while_cores_are_trained(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_plan(**PLAN))
    result = federation.run()
    tensors = {name: values.astype(np.float64) for name, values in result.state.tensors.items()}
    assert np.abs(tensors[A] @ tensors[A].T - np.eye(2)).max() < 1e-6 and np.abs(tensors[B].T @ tensors[B] - np.eye(2)).max() < 1e-6
    assert tensors[R].any() and not result.state.basis and agreed(federation, result.run) == {state_hash(result.state)}
    mean = sum(work.gradient("lm_head") / np.linalg.norm(work.gradient("lm_head")) for work in federation.works.values())
    best = np.linalg.norm(np.linalg.svd(mean, compute_uv=False)[:2])
    assert np.linalg.norm(tensors[B].T @ mean @ tensors[A].T) == pytest.approx(best, rel=1e-2), "all but what weights differ by"
    federation.close()


@pytest.mark.parametrize("kind", ["gradient", "gradient-2"])
def test_killed_coordinator_publishes_the_bases_that_it_kept(tmp_path: Path, kind: str) -> None:
    first = Federation(tmp_path, make_plan(**PLAN))

    def fails(name: str, message_type: str) -> bool:
        if message_type == "query.transcript" and first.of(SumFinished)[-1].kind == kind:
            raise Crash
        return False

    first.fails = fails
    with pytest.raises(Crash):
        first.run()
    first.close()
    second = Federation(tmp_path, make_plan(**PLAN))
    result = second.run()
    assert agreed(second, result.run) == {state_hash(result.state)}
    second.close()
