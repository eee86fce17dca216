"""Memory that runs out is one sentence, and other errors stay what they are."""

from __future__ import annotations

import re

import pytest
import torch

from model.bases import bundled_base
from model.checkpoint.room import room_for
from model.errors import CheckpointError

TOO_MANY = 2**58  # elements: no machine has them


def test_it_says_what_the_weights_take_and_what_to_do() -> None:
    with pytest.raises(CheckpointError) as caught, room_for(bundled_base("tiny"), torch.float32):
        torch.empty(TOO_MANY)
    sentence = r"weights take 9\.\S+ MB \(float32\): give another --dtype \(stored takes .* MB, bfloat16 takes .* MB\), or take a larger"
    assert re.search(sentence, str(caught.value))


@pytest.mark.parametrize(("dtype", "choosable"), [(None, True), (torch.bfloat16, True), (torch.float32, False)])
def test_it_advises_no_type_where_there_is_no_better_one(dtype: torch.dtype | None, choosable: bool) -> None:
    with pytest.raises(CheckpointError, match="take a larger machine") as caught, room_for(bundled_base("tiny"), dtype, choosable):
        torch.empty(TOO_MANY)
    assert "--dtype" not in str(caught.value)


def test_another_error_is_left_alone() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), room_for(bundled_base("tiny"), None):
        torch.ones(2, 3) @ torch.ones(2, 3)
