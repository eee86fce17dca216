"""A run whose plan moves the routers' selection biases: by the load of those that are in the sum, each round by one step."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from protocols.aggregation import router_bias
from tests.federation.federation import Federation, make_plan


def test_biases_move_by_the_load_of_the_institutions_in_each_sum(tmp_path: Path) -> None:
    trainable = {"lora_rank": 2, "targets": ["attention"], "experts": "none", "router_bias": "summed-counts", "router_bias_speed": 0.25}
    federation = Federation(tmp_path, make_plan(trainable=trainable, rounds=3, secure_aggregation={"lanes": 20}))
    state = federation.run().state
    load = sum(federation.works[name].train(1, state.tensors, (), {}).expert_tokens[1] for name in federation.names)
    federation.close()
    expected = 3 * 0.25 * np.sign(np.mean(load) - load)
    assert set(np.abs(expected)) == {0.75}
    for layer in federation.adaptation.expert_counts:
        assert state.tensors[router_bias.tensor(layer)].tolist() == expected.tolist()
