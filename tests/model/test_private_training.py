"""Private steps: what noise and clipping do, what one unit can change, and that every tensor moves in every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.adapters import adapter_state, trained_parameters
from model.errors import ConfigError
from model.per_example import clipped_sum, unit_gradients
from model.private_training import PrivateTerms, UnitBatch, clipped_gradients, train_privately
from model.training import Batch, Execution, LossTerms, accumulate_gradients, adamw, set_rate
from model.transformer import DeepseekV3
from tests.model.private_networks import adapted, batch_of

TERMS = LossTerms(mtp_weight=0.3)
HUGE = 1e9


def gaussian(seed: int = 0) -> Callable[[int], NDArray[np.float64]]:
    return np.random.default_rng(seed).standard_normal


def silent(clip: float, units: float) -> PrivateTerms:
    return PrivateTerms(clip, 0.0, units, gaussian())


def each_its_own(batch: Batch) -> UnitBatch:
    return UnitBatch(batch, torch.arange(len(batch.targets)), len(batch.targets))


def ordinary_step(net: DeepseekV3, seeds: Sequence[int], **terms: Any) -> None:
    """AdamW on the mean of the records' losses, each computed alone."""
    trained = trained_parameters(net)
    optimizer = adamw(list(trained.values()), terms["weight_decay"])
    for seed in seeds:
        accumulate_gradients(net, batch_of([seed], adjusted=True), TERMS, Execution())
    for parameter in trained.values():
        parameter.grad = (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad) / len(seeds)
    set_rate(optimizer, terms["learning_rate"])
    optimizer.step()
    optimizer.zero_grad()


def test_without_noise_and_clipping_a_step_is_an_ordinary_one() -> None:
    net, plain = adapted(), adapted()
    start = adapter_state(net)
    parts = [each_its_own(batch_of([1, 2, 3], adjusted=True)), each_its_own(batch_of([4, 5], adjusted=True))]
    result = train_privately(net, [parts], learning_rate=1e-2, private=silent(HUGE, 5), terms=TERMS, weight_decay=0.1)
    ordinary_step(plain, [1, 2, 3, 4, 5], learning_rate=1e-2, weight_decay=0.1)
    ours, theirs = adapter_state(net), adapter_state(plain)
    for name, values in theirs.items():
        gradient_vanishes = np.abs(ours[name] - values) > 2e-4  # AdamW's first step divides by it
        assert gradient_vanishes.mean() < 0.01, name
    assert any(not np.array_equal(start[name], values) for name, values in ours.items())
    assert (result.steps, result.not_for_sending.examples) == (1, 5)
    alone = [accumulate_gradients(plain, batch_of([seed]), TERMS, Execution()).target_tokens for seed in range(1, 6)]
    assert result.not_for_sending.target_tokens == sum(alone)


def test_the_gradient_is_the_clipped_sum_over_the_expected_units() -> None:
    net, batch = adapted(), batch_of([1, 2, 3])
    found = unit_gradients(net, batch, torch.arange(3), TERMS)
    clip = float(found.norms.median())
    wanted = sum(found.flat[unit] * min(1.0, clip / float(found.norms[unit])) for unit in range(3))
    ours = torch.cat([values.flatten() for values in clipped_sum(found, clip).values()])
    assert isinstance(wanted, torch.Tensor) and torch.allclose(ours, wanted, rtol=1e-4, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 3)), min_size=1, max_size=6), st.floats(0.01, 100), st.integers(0, 3))
def test_one_unit_changes_the_sum_by_the_clip_at_most(rows: list[tuple[int, int]], clip: float, removed: int) -> None:
    """Rows are (record, unit); a unit may have several records, the same one more than once, or none."""
    net = adapted("full", modules=0)
    sums: list[torch.Tensor] = []
    for kept in (rows, [row for row in rows if row[1] != removed]):
        if not kept:
            sums.append(torch.zeros_like(sums[0]))
            continue
        found = unit_gradients(net, batch_of([record for record, _ in kept]), torch.tensor([unit for _, unit in kept]), TERMS, count=4)
        sums.append(torch.cat([values.flatten() for values in clipped_sum(found, clip).values()]))
    assert float((sums[0].double() - sums[1].double()).norm()) <= clip * (1 + 1e-5)


def test_clipped_gradients_keep_the_bound_and_sum_to_the_clipped_sum() -> None:
    net = adapted()
    parts = [UnitBatch(batch_of([1, 2, 3]), torch.tensor([0, 1, 0]), 2), each_its_own(batch_of([4]))]
    clip = 0.5 * float(unit_gradients(net, parts[0].batch, parts[0].units, TERMS).norms.min())
    found = list(clipped_gradients(net, parts, clip, TERMS))
    assert len(found) == 3 and {gradient.dtype for gradient in found} == {np.dtype(np.float64)}
    assert all(0.999 * clip < np.linalg.norm(gradient) <= clip for gradient in found)
    expected = clipped_sum(unit_gradients(net, parts[1].batch, parts[1].units, TERMS), clip)
    assert list(expected) == sorted(adapter_state(net))
    assert np.allclose(found[2], torch.cat([values.flatten() for values in expected.values()]).numpy(), rtol=1e-4, atol=1e-7)


def noisy_gradients(net: DeepseekV3, step: list[UnitBatch], private: PrivateTerms, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.float64]:
    """The gradients that the optimiser is given, as one vector."""
    seen: list[NDArray[np.float64]] = []
    trained = trained_parameters(net)

    def look(optimizer: torch.optim.AdamW) -> None:
        assert all(parameter.grad is not None for parameter in trained.values())
        seen.append(torch.cat([p.grad.flatten() for p in trained.values() if p.grad is not None]).double().numpy())

    monkeypatch.setattr(torch.optim.AdamW, "step", look)
    train_privately(net, [step], learning_rate=1e-3, private=private, terms=TERMS)
    return seen[0]


def test_a_step_that_draws_nobody_is_noise_alone_of_the_declared_size(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = noisy_gradients(adapted(), [], PrivateTerms(0.5, 3.0, 20.0, gaussian()), monkeypatch)
    declared = 3.0 * 0.5 / 20.0
    assert abs(gradients.std() / declared - 1) < 5 / np.sqrt(2 * len(gradients))
    assert abs(gradients.mean() / declared) < 5 / np.sqrt(len(gradients))


def test_the_noise_is_added_to_the_clipped_sum_and_its_size_does_not_depend_on_who_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    net, step = adapted(), [each_its_own(batch_of([1, 2, 3]))]
    alone = noisy_gradients(net, [], PrivateTerms(0.5, 3.0, 20.0, gaussian(7)), monkeypatch)
    both = noisy_gradients(net, step, PrivateTerms(0.5, 3.0, 20.0, gaussian(7)), monkeypatch)
    summed = sum(clipped_gradients(net, step, 0.5, TERMS))
    assert np.allclose((both - alone) * 20.0, summed, atol=1e-5)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_experts_without_tokens_move_too(mode: Any) -> None:
    net = adapted(mode)
    net.routers()[1].e_score_correction_bias[5] = -100.0
    before = adapter_state(net)
    result = train_privately(
        net, [[each_its_own(batch_of([1, 2]))], []], learning_rate=1e-3, private=PrivateTerms(1.0, 1.0, 2.0, gaussian()), terms=TERMS
    )
    assert int(result.not_for_sending.expert_counts[1][5]) == 0 and result.steps == 2
    after = adapter_state(net)
    assert all(np.count_nonzero(after[name] == values) < 0.01 * values.size for name, values in before.items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_proximal_term_pulls_back_and_corrections_move_as_in_ordinary_training() -> None:
    net = adapted()
    trained = trained_parameters(net)
    norm, before = trained["model.norm.weight"], {name: values.detach().clone() for name, values in trained.items()}
    terms = {"learning_rate": 1e-3, "private": silent(1.0, 1.0), "proximal": 0.5}
    train_privately(net, [[]], **terms, corrections={norm: torch.full((32,), 2.0)})  # type: ignore[arg-type]
    assert torch.allclose(norm, before.pop("model.norm.weight") - 2e-3, atol=1e-6)
    assert all(torch.equal(trained[name], values) for name, values in before.items())
    moved = []
    for proximal in (0.0, 1e6):
        net = adapted()
        start = torch.cat([values.detach().flatten() for values in trained_parameters(net).values()])
        private = PrivateTerms(1.0, 1.0, 1.0, gaussian(3))
        train_privately(net, [[]] * 4, learning_rate=1e-3, private=private, proximal=proximal)
        moved.append(float((torch.cat([values.detach().flatten() for values in trained_parameters(net).values()]) - start).norm()))
    assert moved[1] < 0.8 * moved[0]


def test_terms_without_a_bound_are_refused() -> None:
    for clip, multiplier, units in ((0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, 0.0), (float("inf"), 1.0, 1.0), (1.0, float("nan"), 1.0)):
        with pytest.raises(ConfigError, match="clip"):
            PrivateTerms(clip, multiplier, units, gaussian())
