"""A training that is cut off after any step, and goes on from what was kept, ends with the bits of an undisturbed one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from model.errors import ConfigError
from model.loss import Loss
from model.progress import Progress
from model.training import LossTerms, TrainingResult, train
from model.transformer import DeepseekV3
from tests.model.configurations import random_network
from tests.model.test_training import batch

STEPS = 4


@dataclass
class Memory:
    """Keeps every step's progress."""

    begin: Progress | None = None
    last: Progress | None = None

    def after_step(self, progress: Callable[[], Progress]) -> None:
        self.last = progress()


class Killed(Exception):
    """The process dies here."""


def trained(net: DeepseekV3, keeper: Memory, dies_after: int = 0) -> TrainingResult:
    def on_step(step: int, _: Loss) -> None:
        if step == dies_after:
            raise Killed

    first = keeper.begin.step if keeper.begin else 0
    batches = [batch(number) for number in range(first, STEPS)]
    rate = lambda step: 1e-2 / step  # noqa: E731
    return train(net, batches, learning_rate=rate, weight_decay=0.1, proximal=0.5, on_step=on_step, keeper=keeper)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bits_are_those_of_an_undisturbed_training(step: int, dtype: torch.dtype) -> None:
    whole = random_network().to(dtype)
    expected = trained(whole, Memory())
    killed, keeper = random_network().to(dtype), Memory()
    with pytest.raises(Killed):
        trained(killed, keeper, dies_after=step)
    resumed = random_network().to(dtype)
    found = trained(resumed, Memory(begin=keeper.last))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True))
    assert (found.loss_sum, found.examples, found.target_tokens) == (expected.loss_sum, expected.examples, expected.target_tokens)
    assert found.expert_counts.keys() == expected.expert_counts.keys()
    assert all(torch.equal(counts, expected.expert_counts[layer]) for layer, counts in found.expert_counts.items())


def test_without_the_moments_the_bits_are_others() -> None:
    whole, keeper = random_network(), Memory()
    trained(whole, Memory())
    with pytest.raises(Killed):
        trained(random_network(), keeper, dies_after=2)
    assert keeper.last is not None
    without = replace(keeper.last, arrays={name: values for name, values in keeper.last.arrays.items() if not name.startswith("step/")})
    resumed = random_network()
    trained(resumed, Memory(begin=without))
    assert not torch.equal(resumed.lm_head.weight, whole.lm_head.weight)


def test_what_was_taken_down_does_not_change_with_the_network() -> None:
    net, keeper = random_network(), Memory()
    with pytest.raises(Killed):
        trained(net, keeper, dies_after=1)
    assert keeper.last is not None
    before = {name: np.array(values) for name, values in keeper.last.arrays.items()}
    trained(net, Memory(begin=keeper.last))
    assert all(np.array_equal(before[name], values) for name, values in keeper.last.arrays.items())


def test_a_training_that_moves_the_router_s_bias_is_not_kept() -> None:
    with pytest.raises(ConfigError, match="cannot be kept"):
        train(random_network(), [batch(1)], learning_rate=1e-3, terms=LossTerms(bias_update_speed=0.01), keeper=Memory())
