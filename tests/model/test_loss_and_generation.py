"""Chunks change nothing, adjustments act where they are meant to, sampling keeps to its nucleus."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import model.loss
from model.decoding.generation import Sampling, draw, probabilities
from model.loss import LogitAdjustment, cross_entropy
from tests.model.configurations import random_network, random_tokens


def test_chunks_change_neither_loss_nor_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    head = torch.nn.Linear(8, 20)
    hidden, targets = torch.randn(33, 8, requires_grad=True), torch.randint(0, 20, (33,))
    adjustment = LogitAdjustment(torch.tensor([0, 0, 17, 32]), torch.tensor([1, 2, 3, 4]), torch.tensor([0.5, -1.0, 2.0, 3.0]))
    whole = cross_entropy(hidden, head, targets, adjustment)
    (expected,) = torch.autograd.grad(whole, hidden)
    monkeypatch.setattr(model.loss, "LOGITS", 200)
    chunked = cross_entropy(hidden, head, targets, adjustment)
    (gradient,) = torch.autograd.grad(chunked, hidden)
    assert torch.allclose(whole, chunked) and torch.allclose(expected, gradient, atol=1e-6)


def test_the_adjustment_is_added_to_its_logits() -> None:
    head, hidden, targets = torch.nn.Linear(8, 20), torch.randn(2, 8), torch.tensor([3, 4])
    adjusted = head(hidden).clone()
    adjusted[1, 7] += 2.5
    adjustment = LogitAdjustment(torch.tensor([1]), torch.tensor([7]), torch.tensor([2.5]))
    assert torch.allclose(cross_entropy(hidden, head, targets, adjustment), F.cross_entropy(adjusted, targets, reduction="sum"))


def test_padding_is_not_counted() -> None:
    net, tokens = random_network(num_nextn_predict_layers=1), random_tokens(11, 2, 10)
    valid = torch.ones(2, 10, dtype=torch.bool)
    valid[1, 6:] = False
    counts = net.loss(tokens, tokens, valid=valid).expert_counts
    assert int(counts[1].sum()) == 16 * 2
    assert int(counts[3].sum()) == (16 - 2) * 2


def test_a_finished_row_repeats_its_end_token() -> None:
    net, tokens = random_network(), random_tokens(12, 2, 5)
    free = net.generate(tokens, 8)
    end = int(free[0, 6])
    row = net.generate(tokens, 8, eos_token_id=end)[0, 5:].tolist()
    assert row[1] == end and set(row[row.index(end) :]) == {end}


def test_top_p_draws_from_the_nucleus_only() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).expand(500, 4)
    drawn = draw(logits, Sampling(temperature=1.0, top_p=0.7, generator=torch.Generator().manual_seed(0)))
    assert set(drawn.tolist()) == {0, 1}


def test_the_nucleus_is_the_smallest_set_that_reaches_top_p() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.3, 0.05, 0.55]]))
    expected = torch.tensor([[0.0, 0.3, 0.0, 0.55]]) / 0.85
    assert torch.allclose(probabilities(logits, Sampling(temperature=1.0, top_p=0.8)), expected)


def test_rows_end_at_any_of_several_end_tokens_and_repeat_their_own() -> None:
    net, tokens = random_network(), random_tokens(12, 2, 5)
    free = net.generate(tokens, 8)
    ends = [int(free[0, 6]), int(free[1, 9])]
    rows = net.generate(tokens, 8, eos_token_id=ends)[:, 5:].tolist()
    firsts = [next(i for i, token in enumerate(row) if token in ends) for row in rows]
    for row, first, plain in zip(rows, firsts, free[:, 5:].tolist(), strict=True):
        assert row[:first] == plain[:first] and set(row[first:]) == {row[first]}
    assert len(rows[0]) == max(firsts) + 1
