"""Drafting with the MTP module changes how many forwards are run, never a token."""

from __future__ import annotations

import pytest
import torch

from model.errors import GenerationError
from model.mtp import MTPModule
from model.speculation import _Drafter
from model.transformer import DeepseekV3
from tests.model.configurations import random_network, random_tokens


def forwards(net: DeepseekV3, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batch lengths of every forward that follows."""
    lengths: list[int] = []
    hidden = net.hidden

    def counted(input_ids: torch.Tensor, *rest: object) -> object:
        lengths.append(input_ids.shape[1])
        return hidden(input_ids, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(net, "hidden", counted)
    return lengths


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_speculative_tokens_are_the_greedy_ones(rows: int, seed: int) -> None:
    net, tokens = random_network(seed, num_nextn_predict_layers=1), random_tokens(seed, rows, 7)
    assert torch.equal(net.generate(tokens, 24, speculative=True), net.generate(tokens, 24))


@pytest.mark.parametrize("new", [0, 1, 2, 3])
def test_exactly_the_tokens_asked_for_are_produced(new: int) -> None:
    net, tokens = random_network(num_nextn_predict_layers=1), random_tokens(1, 2, 5)
    assert torch.equal(net.generate(tokens, new, speculative=True), net.generate(tokens, new))


def test_unequal_prompts_and_an_end_token_give_the_greedy_tokens() -> None:
    net, tokens = random_network(num_nextn_predict_layers=1), random_tokens(2, 3, 8)
    mask = torch.ones_like(tokens)
    mask[0, :5], mask[2, :2] = 0, 0
    end = int(net.generate(tokens, 12, attention_mask=mask)[0, 11])
    plain = net.generate(tokens, 12, attention_mask=mask, eos_token_id=end)
    assert torch.equal(net.generate(tokens, 12, attention_mask=mask, eos_token_id=end, speculative=True), plain)


def test_cached_drafts_are_those_of_the_full_forward() -> None:
    net, tokens = random_network(num_nextn_predict_layers=1), random_tokens(6, 2, 12)
    drafter = _Drafter(net, tokens[:, :5], 7, None)
    full, states = net(tokens).mtp_logits[0].argmax(-1), net.hidden(tokens).main  # entry i of depth 1 predicts token i + 2
    with torch.no_grad():
        for start, end in [(0, 5), (5, 6), (6, 8), (8, 11)]:
            assert torch.equal(drafter.draft(states[:, start:end], tokens[:, : end + 1]), full[:, end - 1])


def test_drafts_that_agree_halve_the_forwards(monkeypatch: pytest.MonkeyPatch) -> None:
    net, tokens = random_network(num_nextn_predict_layers=1), random_tokens(3, 2, 6)
    with torch.no_grad():  # all logits equal: token 0 wins in every place
        net.lm_head.weight.zero_()
    lengths = forwards(net, monkeypatch)
    net.generate(tokens, 21, speculative=True)
    assert lengths == [6] + [2] * 10


def test_drafts_that_disagree_cost_one_forward_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    net, tokens = random_network(num_nextn_predict_layers=1), random_tokens(4, 1, 6)
    plain = net.generate(tokens, 9)
    module = net.mtp[0]
    assert isinstance(module, MTPModule)
    with torch.no_grad():  # every draft is token 0
        module.shared_head.norm.weight.zero_()
    assert 0 not in plain[0, 6:].tolist()
    lengths = forwards(net, monkeypatch)
    assert torch.equal(net.generate(tokens, 9, speculative=True), plain)
    assert lengths == [6] + [2] * 8


def test_what_cannot_be_speculated_is_refused() -> None:
    tokens = random_tokens(5, 1, 4)
    with pytest.raises(GenerationError, match="needs an MTP module"):
        random_network().generate(tokens, 2, speculative=True)
    with pytest.raises(GenerationError, match="greedy"):
        random_network(num_nextn_predict_layers=1).generate(tokens, 2, temperature=0.5, speculative=True)
