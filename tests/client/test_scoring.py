from typing import Any

import numpy as np
import pytest
import torch

from client import scoring
from client.choices import ChoiceTrie, build_trie
from model.config import ModelConfig
from model.transformer import DeepseekV3

VOCABULARY, END = 24, 0


@pytest.fixture(scope="module")
def net() -> DeepseekV3:
    """Weights so large that log-probabilities differ by many nats and pruning has something to do."""
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 24,
        "moe_intermediate_size": 8,
        "num_hidden_layers": 2,
    }
    heads: dict[str, Any] = {"num_attention_heads": 2, "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 4}
    net = DeepseekV3(ModelConfig(**sizes, **heads, n_routed_experts=4, num_experts_per_tok=2, initializer_range=0.4))
    net.initialize(torch.Generator().manual_seed(1))
    return net


def random_choices(generator: np.random.Generator, count: int) -> list[list[int]]:
    drawn = sorted({(*generator.integers(1, 5, generator.integers(1, 6)).tolist(), END) for _ in range(count)})
    return [list(drawn[index]) for index in generator.permutation(len(drawn))]


def random_prompts(generator: np.random.Generator, count: int) -> list[np.ndarray]:
    return [generator.integers(1, VOCABULARY, generator.integers(1, 12)).astype(np.int32) for _ in range(count)]


@torch.no_grad()
def brute_force(net: DeepseekV3, choices: list[list[int]], prompt: np.ndarray) -> list[float]:
    """Every choice in full, without cache or trie; the padding on the right is not looked at."""
    width = max(map(len, choices))
    rows = [[*prompt.tolist(), *choice, *[END] * (width - len(choice))] for choice in choices]
    log_probabilities = net(torch.tensor(rows)).logits.double().log_softmax(-1)[:, len(prompt) - 1 :]
    return [sum(float(row[i, token]) for i, token in enumerate(choice)) for row, choice in zip(log_probabilities, choices, strict=True)]


@pytest.mark.parametrize("limit", [3, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_search_finds_the_choice_that_brute_force_finds(net: DeepseekV3, seed: int, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "LOGITS", limit * VOCABULARY)
    generator = np.random.default_rng(seed)
    choices, prompts = random_choices(generator, 40), random_prompts(generator, 25)
    found = scoring.likeliest_choices(net, build_trie(choices), prompts)
    for prompt, index in zip(prompts, found, strict=True):
        scores = brute_force(net, choices, prompt)
        assert scores[index] == pytest.approx(max(scores), abs=1e-4)
    assert len(set(found.tolist())) > 1


def test_longer_choice_wins_over_its_likelier_beginning(net: DeepseekV3) -> None:
    """A greedy descent alone would be wrong for some of these prompts."""
    generator = np.random.default_rng(9)
    choices, prompts = random_choices(generator, 60), random_prompts(generator, 100)
    trie = build_trie(choices)
    found = scoring.likeliest_choices(net, trie, prompts)
    greedy = [descend(net, trie, prompt) for prompt in prompts]
    differing = [i for i in range(len(prompts)) if greedy[i] != found[i]]
    assert differing
    for index in differing:
        scores = brute_force(net, choices, prompts[index])
        assert scores[found[index]] >= scores[greedy[index]] - 1e-4


@torch.no_grad()
def descend(net: DeepseekV3, trie: ChoiceTrie, prompt: np.ndarray) -> int:
    node, ids = 0, prompt.tolist()
    while trie.choice[node] < 0:
        logits = net(torch.tensor([ids])).logits[0, -1]
        children = trie.children(np.array([node]))
        node = int(children[int(logits[torch.from_numpy(trie.tokens[children])].argmax())])
        ids.append(int(trie.tokens[node]))
    return int(trie.choice[node])


def test_ties_go_to_the_first_in_the_list(net: DeepseekV3) -> None:
    uniform = DeepseekV3(net.config)
    uniform.load_state_dict(net.state_dict())
    with torch.no_grad():
        uniform.lm_head.weight.zero_()
    choices = [[7, END], [3, END], [5, END]]
    assert scoring.likeliest_choices(uniform, build_trie(choices), [np.array([4, 2], np.int32)]).tolist() == [0]
    assert scoring.likeliest_choices(uniform, build_trie(choices[::-1]), [np.array([4, 2], np.int32)]).tolist() == [0]
