"""Gradients of units are those of plain backward passes over each record alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.adapters import set_trainable, trained_parameters
from model.errors import ConfigError
from model.layout import AdapterError
from model.per_example import clipped_sum, unit_gradients
from model.training import Batch, Execution, LossTerms, accumulate_gradients
from model.transformer import DeepseekV3
from tests.model.private_networks import adapted, batch_of

TERMS = LossTerms(mtp_weight=0.3)


def record_gradient(net: DeepseekV3, batch: Batch, row: int, terms: LossTerms = TERMS) -> dict[str, Tensor]:
    """By the ordinary loss of the record alone, without its padding."""
    alone = batch.rows(row, row + 1)
    length = int(alone.valid.sum())
    alone = replace(alone, input_ids=alone.input_ids[:, :length], targets=alone.targets[:, :length], valid=alone.valid[:, :length])
    accumulate_gradients(net, alone, terms, Execution())
    found = trained_parameters(net)
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in found.items()}
    set_trainable(net, found)  # no gradients again
    return gradients


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert list(ours) == list(theirs)
    for name, gradient in theirs.items():
        assert torch.allclose(ours[name], gradient, rtol=1e-4, atol=1e-6 + 1e-5 * float(gradient.abs().max())), name


@pytest.mark.parametrize("modules", [0, 1, 2])
@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("adjusted", [False, True])
def test_each_record_has_the_gradient_that_it_has_alone(mode: Any, modules: int, adjusted: bool) -> None:
    net, batch = adapted(mode, modules), batch_of([1, 2, 3, 4, 5], adjusted)
    found = unit_gradients(net, batch, torch.arange(5), TERMS)
    for row in range(5):
        alone = record_gradient(net, batch, row)
        assert_close({name: values[row] for name, values in found.gradients.items()}, alone)
        norm = torch.cat([values.flatten() for values in alone.values()]).norm()
        assert float(found.norms[row]) == pytest.approx(float(norm), rel=1e-4)


@pytest.mark.parametrize("changes", [{"q_lora_rank": 12, "tie_word_embeddings": True}, {"first_k_dense_replace": 0, "n_shared_experts": 0}])
def test_other_networks_as_well(changes: dict[str, Any]) -> None:
    net, batch = adapted(**changes), batch_of([1, 2, 3])
    found = unit_gradients(net, batch, torch.arange(3), LossTerms(mtp_weight=0.0))
    for row in range(3):
        alone = record_gradient(net, batch, row, LossTerms(mtp_weight=0.0))
        assert_close({name: values[row] for name, values in found.gradients.items()}, alone)


def test_cores_and_the_factors_around_them() -> None:
    net, batch = adapted(core=True), batch_of([1, 2, 3], adjusted=True)
    cores = [name for name in trained_parameters(net) if name.endswith("lora_R.weight")]
    for names in (list(trained_parameters(net)), cores):
        set_trainable(net, names)
        found = unit_gradients(net, batch, torch.arange(3), TERMS)
        assert_close({name: values[2] for name, values in found.gradients.items()}, record_gradient(net, batch, 2))


@pytest.mark.parametrize("core", [False, True])
def test_of_held_slices_the_leading_parts(core: bool) -> None:
    net, batch = adapted(core=core), batch_of([1, 2, 3])
    set_trainable(net, trained_parameters(net), held_rank=2)
    found = unit_gradients(net, batch, torch.arange(3), TERMS)
    assert found.shapes["lm_head.lora_B.weight"] == (96, 2)
    alone = batch_of([2])
    net.loss(alone.input_ids, alone.targets, valid=alone.valid).total.backward()
    for name, parameter in trained_parameters(net).items():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert torch.allclose(found.gradients[name][1], gradient, rtol=1e-4, atol=1e-6 + 1e-5 * float(gradient.abs().max())), name


def test_a_unit_s_gradient_is_the_mean_of_its_records() -> None:
    net, batch = adapted(), batch_of([1, 2, 3, 4])
    found = unit_gradients(net, batch, torch.tensor([1, 0, 1, 1]), TERMS, count=3)
    records = [record_gradient(net, batch, row) for row in range(4)]
    mean = {name: (records[0][name] + records[2][name] + records[3][name]) / 3 for name in records[0]}
    assert_close({name: values[0] for name, values in found.gradients.items()}, records[1])
    assert_close({name: values[1] for name, values in found.gradients.items()}, mean)
    assert not found.flat[2].any() and found.norms[2] == 0


@pytest.mark.parametrize("execution", [Execution(micro_batch=2), Execution(checkpointing=True), Execution(None, 3, checkpointing=True)])
def test_the_execution_changes_nothing(execution: Execution) -> None:
    net, batch, units = adapted(), batch_of([1, 2, 3, 4, 5], adjusted=True), torch.tensor([0, 1, 2, 1, 3])
    whole, parts = unit_gradients(net, batch, units, TERMS), unit_gradients(net, batch, units, TERMS, execution)
    assert torch.allclose(whole.flat, parts.flat, rtol=1e-4, atol=1e-6)
    assert whole.loss_sum == pytest.approx(parts.loss_sum, rel=1e-5) and whole.target_tokens == parts.target_tokens
    assert all(torch.equal(counts, parts.expert_counts[layer]) for layer, counts in whole.expert_counts.items())


def test_logits_in_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = adapted(modules=2), batch_of([1, 2, 3], adjusted=True)
    whole = unit_gradients(net, batch, torch.arange(3), TERMS)
    monkeypatch.setattr("model.per_example.LOGITS", 96 * 4)
    assert torch.allclose(unit_gradients(net, batch, torch.arange(3), TERMS).flat, whole.flat, rtol=1e-4, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.lists(st.integers(41, 80), min_size=1, max_size=5), st.integers(0, 4))
def test_other_records_have_no_part_in_a_record_s_gradient(some: list[int], others: list[int], place: int) -> None:
    net = adapted()
    gradients = []
    for company in (some, others):
        row = min(place, len(company))
        batch = batch_of([*company[:row], 100, *company[row:]], adjusted=True)
        gradients.append(unit_gradients(net, batch, torch.arange(len(batch.targets)), TERMS).flat[row])
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_bfloat16_activations_give_nearly_the_same() -> None:
    net, batch = adapted(), batch_of([1, 2, 3])
    exact = unit_gradients(net, batch, torch.arange(3), TERMS).norms
    rounded = unit_gradients(net, batch, torch.arange(3), TERMS, Execution(compute_dtype=torch.bfloat16)).norms
    assert torch.allclose(exact, rounded, rtol=0.2)


def test_only_what_is_trained_has_gradients() -> None:
    net, batch = adapted(), batch_of([1, 2])
    names = ["lm_head.lora_B.weight", "model.layers.2.mlp.experts.3.up_proj.lora_A.weight", "model.norm.weight"]
    set_trainable(net, names)
    found = unit_gradients(net, batch, torch.arange(2), TERMS)
    assert list(found.gradients) == names
    assert_close({name: values[1] for name, values in found.gradients.items()}, record_gradient(net, batch, 1))


def test_afterwards_the_network_trains_as_before() -> None:
    net, batch = adapted(), batch_of([1, 2, 3])
    before = record_gradient(net, batch, 0)
    unit_gradients(net, batch, torch.arange(3), TERMS)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(gradient, before[name]) for name, gradient in record_gradient(net, batch, 0).items())


def test_a_record_without_targets_has_no_gradient() -> None:
    net, batch = adapted(), batch_of([1, 2])
    batch.targets[0] = -100
    found = unit_gradients(net, batch, torch.arange(2), TERMS)
    assert not found.flat[0].any() and found.flat[1].any()


def test_a_gradient_that_is_not_finite_counts_as_none() -> None:
    net, batch = adapted(), batch_of([1, 2], adjusted=True)
    assert batch.adjustment is not None
    batch.adjustment.values[:] = torch.where(batch.adjustment.rows == 0, torch.nan, batch.adjustment.values)
    found = unit_gradients(net, batch, torch.arange(2), TERMS)
    assert not found.flat[0].any() and found.norms[0] == 0
    assert all(values.isfinite().all() for values in clipped_sum(found, 1.0).values())


def test_what_joins_records_is_refused() -> None:
    net, batch = adapted(), batch_of([1, 2])
    for terms in (LossTerms(balance_weight=0.1), LossTerms(bias_update_speed=0.1)):
        with pytest.raises(ConfigError, match="joins the gradients"):
            unit_gradients(net, batch, torch.arange(2), terms)
    with pytest.raises(ConfigError, match="packed"):
        unit_gradients(net, replace(batch, segments=torch.zeros_like(batch.targets)), torch.arange(2), TERMS)


def test_full_embeddings_are_refused_and_the_network_is_left_alone() -> None:
    net, batch = adapted(embeddings="full"), batch_of([1, 2])
    with pytest.raises(AdapterError, match="embedding_mode"):
        unit_gradients(net, batch, torch.arange(2), TERMS)
    assert record_gradient(net, batch, 0)["model.embed_tokens.weight"].any()
