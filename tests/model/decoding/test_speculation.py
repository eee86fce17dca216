"""Drafting with the MTP modules changes how many forwards are run, never a greedy token and never a distribution."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import model.decoding.acceptance
import model.decoding.speculation
from model.decoding.acceptance import accept_sampled
from model.decoding.drafting import Drafter
from model.decoding.generation import Generation, Sampling, generate, probabilities
from model.decoding.slots import Slots
from model.decoding.speculation import generate_speculatively
from model.errors import GenerationError
from model.layers import rotation
from model.mtp import MTPModule
from model.transformer import DeepseekV3
from tests.model.configurations import random_network, random_tokens

FEW = {"vocab_size": 5}  # so few that drafts of a random network are often right


def few_tokens(seed: int, *shape: int) -> Tensor:
    return torch.randint(0, FEW["vocab_size"], shape, generator=torch.Generator().manual_seed(seed))


def forwards(net: DeepseekV3, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batch lengths of every forward that follows."""
    lengths: list[int] = []
    hidden = net.hidden

    def counted(input_ids: torch.Tensor, *rest: object) -> object:
        lengths.append(input_ids.shape[1])
        return hidden(input_ids, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(net, "hidden", counted)
    return lengths


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    modules=st.integers(1, 3),
    drafts=st.integers(1, 5),
    rows=st.integers(1, 4),
    new=st.integers(0, 20),
    padding=st.none() | st.lists(st.integers(0, 6), min_size=4, max_size=4),
    ends=st.none() | st.integers(0, 4) | st.lists(st.integers(0, 4), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_greedy_tokens_are_those_of_plain_generation(
    modules: int, drafts: int, rows: int, new: int, padding: list[int] | None, ends: int | list[int] | None, seed: int
) -> None:
    net, tokens = random_network(seed, num_nextn_predict_layers=modules, **FEW), few_tokens(seed, rows, 7)
    mask = None if padding is None else torch.arange(7)[None] >= torch.tensor(padding[:rows])[:, None]
    sampling = Sampling(eos_token_id=ends)
    plain = generate(net, tokens, new, sampling, mask).tokens
    drafted = generate_speculatively(net, tokens, new, sampling, mask, draft_tokens=drafts)
    assert torch.equal(drafted.tokens, plain)
    assert 0 <= drafted.accepted <= drafted.drafted


@pytest.mark.parametrize("padded", [False, True])
def test_caches_full_of_holes_are_compacted(padded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    net, tokens = random_network(1, num_nextn_predict_layers=1, **FEW), few_tokens(1, 4, 6)
    mask = torch.arange(6)[None] >= torch.tensor([[0], [3], [1], [0]]) if padded else None
    lengths, compact = [], Slots.compact

    def counted(slots: Slots) -> Tensor:
        lengths.append(slots.length)
        return compact(slots)

    monkeypatch.setattr(Slots, "compact", counted)
    monkeypatch.setattr(model.decoding.speculation, "_SPARE_SLOTS", 0)
    drafted = generate_speculatively(net, tokens, 40, Sampling(), mask, draft_tokens=2)
    assert len(lengths) > 5
    assert torch.equal(drafted.tokens, generate(net, tokens, 40, Sampling(), mask).tokens)


@pytest.mark.parametrize("modules", [1, 2, 3])
def test_cached_drafts_are_those_of_the_full_forward(modules: int) -> None:
    """With module 1's draft of the next token put behind the tokens, module 2 of the full forward gives the second draft, and so on."""
    net, tokens = random_network(num_nextn_predict_layers=modules), random_tokens(6, 2, 14)
    states, slots = net.hidden(tokens).main.detach(), Slots(None, 2, 5, 20, tokens.device)
    drafter = Drafter(net, slots, Sampling(), modules, 0)
    with torch.no_grad():
        for start, end in [(0, 5), (5, 6), (6, 8), (8, 11)]:
            if start:
                slots.append(torch.full((2,), end - start), end - start, level=True)
            drafter.read(states[:, start:end], tokens[:, start + 1 : end + 1], torch.full((2,), end - start - 1))
            drafts, _ = drafter.draft(modules)
            known = torch.cat([tokens[:, : end + 1], drafts], 1)
            for depth, logits in enumerate(net(known).mtp_logits):  # entry i of depth k predicts token i + k + 1
                assert torch.equal(drafts[:, depth], logits[:, end - 1].argmax(-1))


def test_the_last_module_drafts_on_from_its_own_output() -> None:
    net, tokens = random_network(1, num_nextn_predict_layers=1), random_tokens(7, 1, 9)
    states, slots = net.hidden(tokens).main.detach(), Slots(None, 1, 8, 16, tokens.device)
    drafter = Drafter(net, slots, Sampling(), 3, 0)
    with torch.no_grad():
        drafter.read(states[:, :8], tokens[:, 1:], torch.tensor([7]))
        drafts, _ = drafter.draft(3)
        for count in (1, 2):
            known = torch.cat([tokens, drafts[:, :count]], 1)
            fed = states[:, :8]
            for _ in range(count):  # the module's output for the last column stands in for the network's next state
                fed = torch.cat([fed, _module_outputs(net, fed, known[:, 1 : fed.shape[1] + 1])[:, -1:]], 1)
            assert torch.equal(drafts[:, count], net.lm_head(_module_outputs(net, fed, known[:, 1:])[:, -1]).argmax(-1))


def _module_outputs(net: DeepseekV3, states: Tensor, tokens: Tensor) -> Tensor:
    turn = rotation(net.config, torch.arange(tokens.shape[1])[None], states.dtype)
    module = net.mtp[0]
    assert isinstance(module, MTPModule)
    made: Tensor = module(states, net.model.embed_tokens(tokens), turn)[0]
    return made


def test_drafts_that_agree_halve_the_forwards(monkeypatch: pytest.MonkeyPatch) -> None:
    net, tokens = random_network(num_nextn_predict_layers=1), random_tokens(3, 2, 6)
    with torch.no_grad():  # all logits equal: token 0 wins in every place
        net.lm_head.weight.zero_()
    lengths = forwards(net, monkeypatch)
    net.generate(tokens, 21, speculative=True)
    assert lengths == [6] + [2] * 10
    lengths.clear()
    assert generate_speculatively(net, tokens, 21, Sampling(), draft_tokens=3).acceptance == 1.0
    assert lengths == [6] + [4] * 5


def test_drafts_that_disagree_cost_one_forward_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    net, tokens = random_network(num_nextn_predict_layers=1), random_tokens(4, 1, 6)
    plain = net.generate(tokens, 9)
    module = net.mtp[0]
    assert isinstance(module, MTPModule)
    with torch.no_grad():  # every draft is token 0
        module.shared_head.norm.weight.zero_()
    assert 0 not in plain[0, 6:].tolist()
    lengths = forwards(net, monkeypatch)
    drafted = generate_speculatively(net, tokens, 9, Sampling())
    assert torch.equal(drafted.tokens, plain)
    assert (drafted.drafted, drafted.accepted, drafted.acceptance) == (7, 0, 0.0)
    assert lengths == [6] + [2] * 7 + [1], "the last token needs no draft"


def test_a_network_in_bfloat16_with_a_float32_embedding_drafts() -> None:
    net, tokens = random_network(1, num_nextn_predict_layers=2, **FEW).bfloat16(), few_tokens(1, 2, 6)
    net.model.embed_tokens.float()
    drafted = generate_speculatively(net, tokens, 12, Sampling(), draft_tokens=3)
    assert drafted.tokens.shape == (2, 18) and drafted.drafted > 0


def test_a_row_does_not_wait_for_the_drafts_of_another() -> None:
    """Together, rows accept as many drafts as alone."""
    net, tokens = random_network(1, num_nextn_predict_layers=1, **FEW), few_tokens(1, 4, 6)
    alone = [generate_speculatively(net, row[None], 25, Sampling(), draft_tokens=2) for row in tokens]
    assert len({one.accepted for one in alone}) > 1, "rows that differ in nothing prove nothing"
    together = generate_speculatively(net, tokens, 25, Sampling(), draft_tokens=2)
    assert abs(together.accepted - sum(one.accepted for one in alone)) <= 3, "a row may draft past its last token beside a longer one"


DRAWS, TOKENS = 8_000, 3
BOUND = 1e-3  # p-value; the draws are seeded, so that the test gives one answer


def chi_square(observed: Tensor, expected: Tensor) -> float:
    """The p-value of Pearson's test on counts [n]; cells that expect fewer than five draws are taken together."""
    rare = expected < 5
    counts, wanted = (torch.cat([values[~rare], values[rare].sum()[None]]) for values in (observed, expected))
    counts, wanted = (values[wanted > 0] for values in (counts, wanted))
    statistic = ((counts - wanted).square() / wanted).sum()
    return float(torch.special.gammaincc(torch.tensor((len(counts) - 1) / 2), statistic / 2))


def exact_distribution(net: DeepseekV3, prompt: Tensor, sampling: Sampling) -> Tensor:
    """Probability of each sequence of TOKENS next tokens, [vocab ** TOKENS] float64, in the order of their digits."""
    sequences = torch.tensor(list(itertools.product(range(FEW["vocab_size"]), repeat=TOKENS)))
    with torch.no_grad():
        logits = net(torch.cat([prompt.expand(len(sequences), -1), sequences], 1)).logits[:, -TOKENS - 1 : -1]
        chances = probabilities(logits, sampling).gather(-1, sequences[..., None])[..., 0]
    return chances.double().prod(1)


def p_value(sampling: dict[str, float], modules: int, seed: int) -> tuple[float, Generation]:
    net, prompt = random_network(seed, num_nextn_predict_layers=modules, **FEW), few_tokens(seed, 1, 6)
    drawing = Sampling(**sampling, generator=torch.Generator().manual_seed(seed))  # type: ignore[arg-type]
    drawn = generate_speculatively(net, prompt.expand(DRAWS, -1), TOKENS + 1, drawing, draft_tokens=2)
    digits = torch.tensor([FEW["vocab_size"] ** place for place in reversed(range(TOKENS))])
    cells = (drawn.tokens[:, 6 : 6 + TOKENS] * digits).sum(1)
    expected = exact_distribution(net, prompt, drawing) * DRAWS
    return chi_square(torch.bincount(cells, minlength=len(expected)).double(), expected), drawn


@pytest.mark.parametrize("modules", [1, 2])
@pytest.mark.parametrize("sampling", [{"temperature": 1.0}, {"temperature": 1.6, "top_p": 0.8}, {"temperature": 0.6}])
def test_sampled_tokens_have_the_plain_distribution(sampling: dict[str, float], modules: int) -> None:
    p, drawn = p_value(sampling, modules, 2)
    assert p > BOUND
    assert drawn.acceptance is not None and 0.05 < drawn.acceptance < 0.95, "both outcomes of the rule must occur"


def always(wanted: Tensor, proposed: Tensor, drafts: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """A wrong rule: every draft stands."""
    return torch.full((len(drafts),), drafts.shape[1]), torch.multinomial(wanted[:, -1], 1, generator=generator)[:, 0]


def without_residual(wanted: Tensor, proposed: Tensor, drafts: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """A wrong rule: after a rejected draft the token is drawn from p and not from what q left of it."""
    accepted, _ = model.decoding.acceptance.accept_sampled(wanted, proposed, drafts, generator)
    return accepted, torch.multinomial(wanted[torch.arange(len(drafts)), accepted], 1, generator=generator)[:, 0]


@pytest.mark.parametrize("wrong", [always, without_residual])
def test_the_chi_square_test_finds_a_wrong_rule(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.decoding.speculation, "accept_sampled", wrong)
    assert p_value({"temperature": 1.0}, 1, 2)[0] < 1e-9


@pytest.mark.parametrize("speculative", [False, True])
def test_a_cache_that_holds_the_first_tokens_changes_no_token(speculative: bool) -> None:
    net, tokens = random_network(num_nextn_predict_layers=2, **FEW), few_tokens(9, 1, 12)
    plain = net.generate(tokens, 15)
    for known in (1, 7, 11):
        cache = net.new_cache(1, 27)
        with torch.no_grad():
            net.hidden(tokens[:, :known], cache)
        assert torch.equal(net.generate(tokens, 15, speculative=speculative, draft_tokens=3, cache=cache), plain)
        with torch.no_grad():  # what it holds afterwards is the plain cache of the tokens so far
            length = cache.length
            again = net.hidden(plain[:, length - 1 : length], _rewound(cache)).main
            assert torch.allclose(again, net.hidden(plain[:, :length]).main[:, -1:], atol=1e-4)
            assert length >= 26


def _rewound(cache: Any) -> Any:
    cache.rewind(cache.length - 1)
    return cache


def test_what_cannot_be_generated_is_refused() -> None:
    tokens, net = random_tokens(5, 2, 4), random_network(num_nextn_predict_layers=1)
    with pytest.raises(GenerationError, match="needs an MTP module"):
        random_network().generate(tokens, 2, speculative=True)
    with pytest.raises(GenerationError, match="draft_tokens is 0"):
        net.generate(tokens, 2, speculative=True, draft_tokens=0)
    with pytest.raises(GenerationError, match="one row only"):
        net.generate(tokens, 2, speculative=True, cache=net.new_cache(2, 9))
    with pytest.raises(GenerationError, match="temperature is -1"):
        net.generate(tokens, 2, temperature=-1)
    for temperature in (float("nan"), float("inf"), 1e-40):
        with pytest.raises(GenerationError, match="temperature"):
            net.generate(tokens, 2, temperature=temperature)
    for speculative in (False, True):
        with pytest.raises(GenerationError, match="max_new_tokens"):
            net.generate(tokens, -1, speculative=speculative)
        with pytest.raises(GenerationError, match="no token"):
            net.generate(tokens[:, :0], 1, speculative=speculative)
    with pytest.raises(GenerationError, match="top_p is 0"):
        net.generate(tokens, 2, temperature=1, top_p=0)
    with pytest.raises(GenerationError, match="give a larger one"):
        net.generate(tokens, 6, cache=net.new_cache(2, 9))
    full = net.new_cache(2, 9)
    net.hidden(tokens, full)
    with pytest.raises(GenerationError, match="rewind it to 3"):
        net.generate(tokens, 2, cache=full)


def test_a_residual_that_rounding_has_emptied_is_the_wanted_distribution() -> None:
    wanted = torch.tensor([[[0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]])
    proposed, drafts = torch.tensor([[[1.0, 1.0, 1.0]]]), torch.tensor([[0]])
    accepted, following = accept_sampled(wanted, proposed, drafts, torch.Generator().manual_seed(0))
    assert accepted.tolist() == [0] and following.item() in (1, 2)
