"""Selection biases follow the summed load as in the rule's own text, and belong to no aggregation rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.layout import AdapterTensor
from protocols.aggregation import router_bias, rule_of
from protocols.aggregation.router_bias import KIND
from protocols.encoding import LaneLayout, decode, encode
from protocols.plan import parse_plan
from protocols.state import State

LAYERS, CAP = {1: 4, 2: 4}, 81920
CONTENT = {"name": "p", "base": "tiny", "records": {"prompt": "{a}", "target": "{b}"}, "trainable": {"experts": "none"}}


def state(bias: float = 0.0) -> State:
    return State("", 1, {router_bias.tensor(layer): np.full(count, bias, np.float32) for layer, count in LAYERS.items()})


@given(st.lists(arrays(np.int64, (2, 4), elements=st.integers(0, CAP)), min_size=2, max_size=6))
def test_the_rule_on_a_secure_sum_is_the_rule_on_the_global_batch(institutions: list[np.ndarray]) -> None:
    lanes = LaneLayout(router_bias.blocks(LAYERS), bits=20)
    total = np.zeros(lanes.size, np.uint32)
    for number, (first, second) in enumerate(institutions):
        values = router_bias.contribution({1: first, 2: second}, LAYERS, CAP)
        total += encode(values, lanes, len(institutions), np.random.Generator(np.random.Philox(number)))
    found = router_bias.counts(decode(total, lanes, len(institutions)), LAYERS, CAP)
    batch = np.sum(institutions, axis=0)
    assert all(np.array_equal(found[layer], batch[layer - 1]) for layer in LAYERS)
    after = router_bias.moved(state(0.25), found, 0.5).tensors
    for layer in LAYERS:
        load = [int(count) for count in batch[layer - 1]]
        expected = [0.25 + 0.5 * ((4 * count < sum(load)) - (4 * count > sum(load))) for count in load]
        assert after[router_bias.tensor(layer)].tolist() == expected
        assert after[router_bias.tensor(layer)].dtype == np.float32


def test_experts_with_the_mean_load_and_layers_without_tokens_stay() -> None:
    lanes = router_bias.contribution({1: np.array([5, 5, 5, 5])}, LAYERS, CAP)
    after = router_bias.moved(state(), router_bias.counts(lanes, LAYERS, CAP), 1e-3)
    assert all((values == 0).all() for values in after.tensors.values())


@pytest.mark.parametrize("rule", ["alternating", "fedavg", "ffa", "fedsa", "fedsvd"])
def test_no_rule_trains_or_keeps_a_bias(rule: str) -> None:
    layout = [AdapterTensor("h.lora_A.weight", (2, 3), "lora_A"), AdapterTensor(router_bias.tensor(1), (4,), KIND)]
    chosen = rule_of(parse_plan({**CONTENT, "aggregation": {"rule": rule}}, "plan"))
    for number in (1, 2):
        assert KIND not in {tensor.kind for tensor in (*chosen.trained(number, layout), *chosen.private(layout))}
