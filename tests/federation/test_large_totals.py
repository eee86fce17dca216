"""A total of more than one message: its parts go ahead of the message that shows what was drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.errors import StorageError
from client.totals import PartialTotal
from protocols.errors import Refusal
from protocols.lanes import LaneFormat
from protocols.secagg import bytes_of_part, parts_of
from tests.federation.federation import Federation, make_plan

PLAN = make_plan(rounds=1, trainable={"lora_rank": 512, "targets": ["lm_head"], "experts": "none"}, aggregation={"rule": "fedavg"})


def totals(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("totals/*") if path.is_file()]


def test_parts_of_a_total_lead_to_the_same_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Federation(tmp_path / "whole", PLAN, seed=1)
    expected = whole.run().state
    whole.close()
    monkeypatch.setattr("protocols.secagg.inputs.PART_CHUNKS", 2)
    asked: list[str] = []
    federation = Federation(tmp_path / "parts", PLAN, seed=1, on_answer=lambda _, stage, *__: asked.append(stage))
    state = federation.run().state
    federation.close()
    assert asked.count("query.total_part") == 4 * 2, "six chunks are two messages before the last one"
    assert all(np.array_equal(state.tensors[name], values) for name, values in expected.tensors.items())
    assert totals(tmp_path) == []


def test_who_does_not_take_a_part_is_missing_and_follows_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.secagg.inputs.PART_CHUNKS", 2)
    failed: list[str] = []

    def once(name: str, stage: str) -> bool:
        if name == "dov" and stage == "query.total_part" and not failed:
            failed.append(name)
            return True
        return False

    federation = Federation(tmp_path, PLAN, fails=once)
    federation.run()
    places = {node.ledger.position(federation.registry.runs()[0].run) for node in federation.nodes.values()}
    federation.close()
    assert failed
    assert len(places) == 1


def test_parts_have_their_places_and_lengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.secagg.inputs.PART_CHUNKS", 1)
    lanes = LaneFormat(3 * 4096 - 5, 0, 32)
    written = np.arange(lanes.nbytes, dtype=np.uint64).astype(np.uint8)
    parts = [written[bytes_of_part(lanes, part)] for part in range(parts_of(lanes))]
    partial = PartialTotal(tmp_path, "run", lanes)
    PartialTotal(tmp_path, "run", LaneFormat(3 * 4096, 0, 32)).keep(2, np.zeros(4 * 4096, np.uint8))  # of a sum before that was left there
    for part in (1, 0, 1):
        partial.keep(part, parts[part])
    assert np.array_equal(partial.whole(parts[2]), written)
    for part, data in ((3, parts[2]), (0, parts[2]), (0, parts[0].view(np.int8))):
        with pytest.raises(Refusal):
            partial.keep(part, data)
    partial.remove()
    (tmp_path / "totals").rmdir()
    (tmp_path / "totals").write_text("")
    with pytest.raises(StorageError, match="free space"):
        partial.keep(0, parts[0])
