"""State hash and file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocols.errors import StateError
from protocols.state import PreRound, State, inputs_hash, load_state, save_state, state_hash

ZEROS = np.zeros((2, 3), np.float32)
BEFORE = PreRound({1: (0,)}, ("a", "b", "c"), 3)
TENSORS = {"b.lora_B.weight": ZEROS + 1, "a.lora_A.weight": ZEROS}
STATE = State("ab" * 32, 3, TENSORS, {1: (0, 2)}, {"a.lora_A.weight": ZEROS}, pre_round=BEFORE)


def test_file_keeps_every_bit(tmp_path: Path) -> None:
    save_state(STATE, tmp_path / "state.safetensors")
    loaded = load_state(tmp_path / "state.safetensors")
    assert state_hash(loaded) == state_hash(STATE) and loaded.experts == {1: (0, 2)} and loaded.round == 3


def test_hash_does_not_depend_on_order_or_memory_layout() -> None:
    reordered = dict(sorted(STATE.tensors.items(), reverse=True)) | {"b.lora_B.weight": np.asfortranarray(ZEROS + 1)}
    assert state_hash(replace(STATE, tensors=reordered)) == state_hash(STATE)


@pytest.mark.parametrize(
    "changes",
    [
        {"round": 4},
        {"base_sha256": "cd" * 32},
        {"experts": {1: (0, 1)}},
        {"momentum": {}},
        {"pre_round": None},
        {"pre_round": replace(BEFORE, kept={1: (2,)})},
        {"pre_round": replace(BEFORE, members=("a", "b", "d"))},
        {"pre_round": replace(BEFORE, threshold=2)},
        {"tensors": {**STATE.tensors, "b.lora_B.weight": ZEROS}},
        {"tensors": {**STATE.tensors, "b.lora_B.weight": (ZEROS + 1).reshape(3, 2)}},
        {"tensors": {"c": ZEROS + 1, "a.lora_A.weight": ZEROS}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_hash_changes_with_everything_that_is_in_the_state(changes: dict[str, Any]) -> None:
    assert state_hash(replace(STATE, **changes)) != state_hash(STATE)


def test_state_without_a_pre_round_has_the_hash_that_it_always_had() -> None:
    assert state_hash(replace(STATE, pre_round=None)).hex() == "7cac62d55d13d3bfa37f0bf1f656aaf741903331d6701261c701e4ef0aa5b70c"


def test_inputs_are_what_training_and_measuring_read() -> None:
    assert inputs_hash(STATE) == inputs_hash(replace(STATE, round=7, momentum={}, pre_round=replace(BEFORE, kept={})))
    assert inputs_hash(STATE) != inputs_hash(replace(STATE, experts={1: (0, 1)}))


def test_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "state.safetensors").write_bytes(b"no state")
    with pytest.raises(StateError, match="not a readable state"):
        load_state(tmp_path / "state.safetensors")
