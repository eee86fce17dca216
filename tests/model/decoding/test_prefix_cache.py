"""Generation with a prefix cache is generation without it, whatever was read before and whichever adapter is on."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.adapters import adapter_state, attach_adapters, detach_adapters, load_adapter
from model.decoding.prefix_cache import PrefixCache, adapter_sha256
from model.layout import AdapterConfig
from model.transformer import DeepseekV3
from tests.model.configurations import random_network, random_tokens


def continued(net: DeepseekV3, prefixes: PrefixCache, ids: Tensor, new: int = 8, *, speculative: bool = False) -> tuple[Tensor, int]:
    """What a holder of the cache does: the tokens, and how many of the prompt were known."""
    sha256 = adapter_sha256(net)
    cache, known = prefixes.cached(ids, sha256, ids.shape[1] + new)
    tokens = net.generate(ids, new, cache=cache, speculative=speculative)
    prefixes.store(tokens, sha256, cache)
    return tokens, known


@pytest.mark.parametrize("speculative", [False, True])
def test_a_conversation_reads_only_what_is_new(speculative: bool) -> None:
    net = random_network(num_nextn_predict_layers=1)
    prefixes = PrefixCache(net, 1000)
    ids, told = random_tokens(1, 1, 9), 0
    for turn in range(3):
        tokens, known = continued(net, prefixes, ids, speculative=speculative)
        assert torch.equal(tokens, net.generate(ids, 8))
        assert known >= told
        told = tokens.shape[1] - 1 if not speculative else tokens.shape[1] - 2
        ids = torch.cat([tokens, random_tokens(turn + 5, 1, 4)], 1)
    assert prefixes.tokens <= ids.shape[1]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(prompts=st.lists(st.lists(st.integers(2, 4), min_size=1, max_size=9), min_size=1, max_size=6), capacity=st.integers(0, 40))
def test_prompts_that_share_anything_give_the_plain_tokens(prompts: list[list[int]], capacity: int) -> None:
    net = random_network()
    prefixes = PrefixCache(net, capacity)
    for prompt in prompts:
        ids = torch.tensor([prompt])
        assert torch.equal(continued(net, prefixes, ids, 3)[0], net.generate(ids, 3))
        assert prefixes.tokens <= capacity


def test_the_longest_common_prefix_is_found() -> None:
    net = random_network()
    prefixes, ids = PrefixCache(net, 1000), random_tokens(2, 1, 12)
    other = ids.clone()
    other[0, 4:] = (other[0, 4:] - 1) % 90 + 2
    for stored in (other, ids):
        cache = net.new_cache(1, 12)
        with torch.no_grad():
            net.hidden(stored, cache)
        prefixes.store(stored, "base", cache)
    asked = torch.cat([ids[:, :10], other[:, 10:]], 1)
    assert prefixes.cached(asked, "base", 20)[1] == 10
    assert prefixes.cached(ids, "base", 20)[1] == 11, "the last token must be read for its logits"
    assert prefixes.cached(ids, "another", 20)[1] == 0


def test_a_changed_adapter_never_meets_an_old_cache() -> None:
    net, ids = random_network(3), random_tokens(3, 1, 10)
    prefixes, plain = PrefixCache(net, 1000), net.generate(ids, 8)
    assert continued(net, prefixes, ids)[1] == 0
    attach_adapters(net, AdapterConfig(), {})
    hashes = [adapter_sha256(net)]
    rng = np.random.default_rng(0)
    for _ in range(2):
        load_adapter(net, {name: rng.normal(0, 0.5, values.shape).astype(np.float32) for name, values in adapter_state(net).items()})
        hashes.append(adapter_sha256(net))
        adapted = net.generate(ids, 8)
        assert not torch.equal(adapted, plain)
        assert [continued(net, prefixes, ids)[1] for _ in range(2)] == [0, 9]
        assert torch.equal(continued(net, prefixes, ids)[0], adapted)
    assert len(set(hashes)) == 3 and all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in hashes)
    detach_adapters(net)
    tokens, known = continued(net, prefixes, ids)
    assert known == 9 and torch.equal(tokens, plain)


def test_the_least_recently_used_goes_first() -> None:
    net = random_network()
    prefixes, prompts = PrefixCache(net, 30), [random_tokens(seed, 1, 10) for seed in range(3)]
    for ids in (*prompts[:2], prompts[0], prompts[2]):
        continued(net, prefixes, ids, 4)
    assert [prefixes.cached(ids, "base", 14)[1] > 3 for ids in prompts] == [True, False, True]


def test_what_is_handed_out_is_the_caller_s_own() -> None:
    net, ids = random_network(), random_tokens(4, 1, 10)
    prefixes = PrefixCache(net, 1000)
    first = continued(net, prefixes, ids)[0]
    cache, known = prefixes.cached(ids, "base", 30)
    cache.rewind(2)
    with torch.no_grad():
        net.hidden(random_tokens(9, 1, 12), cache)
    assert known == 9
    assert torch.equal(continued(net, prefixes, ids)[0], first)
