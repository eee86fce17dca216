"""Lanes of sums that continue another: linear in one and the same work, so that two totals tell no more than one."""

from __future__ import annotations

import numpy as np
import pytest

from client.continued import gradients_of
from model.layout import Adaptation, AdapterConfig
from protocols.aggregation import fedsb
from protocols.schedule import PlannedSum
from protocols.state import with_arrays
from protocols.terms import Terms
from tests.federation.federation import CONFIG, FormulaWork, make_plan


@pytest.mark.parametrize("name", ["ada", "bea"])
def test_second_sum_projects_the_gradient_that_the_first_one_sketched(name: str) -> None:
    plan = make_plan(trainable={"lora_rank": 2, "targets": ["lm_head", "attention"], "experts": "none"}, aggregation={"rule": "fedsb"})
    adaptation = Adaptation(CONFIG, AdapterConfig.from_fields(plan.adapter_fields), plan.seed)
    terms, work = Terms(plan, adaptation), FormulaWork(name, plan, adaptation)
    start = terms.start()
    omegas = fedsb.omegas(plan, adaptation.layout({}))
    sketched = gradients_of(work, terms, start, PlannedSum(0, "gradient", False))
    ranges = {module: np.linalg.qr(sketched[f"gradient.{module}"])[0].astype(np.float32) for module in omegas}
    after = with_arrays(start, {f"basis/range/{module}": q for module, q in ranges.items()})
    cores = gradients_of(work, terms, after, PlannedSum(0, "gradient-2", True))
    assert len(omegas) > 1
    for module, omega in omegas.items():
        projected = ranges[module].T.astype(np.float64) @ sketched[f"gradient.{module}"]
        assert np.abs(cores[f"core.{module}"] @ omega - projected).max() < 1e-6
        assert np.abs(cores[f"core.{module}"]).max() <= 1.0
