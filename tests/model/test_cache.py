"""Decoding on the latent cache is the full forward, token by token."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.adapters import adapter_state, attach_adapters, load_adapter
from model.errors import GenerationError
from model.layout import AdapterConfig
from tests.model.configurations import VARIANTS, random_network, random_tokens, relative_error


@pytest.mark.parametrize("variant", VARIANTS)
def test_cached_decoding_equals_the_full_forward(variant: str) -> None:
    net = random_network(**VARIANTS[variant]).eval()
    tokens = random_tokens(4, 2, 24)
    cache = net.new_cache(2, 24)
    with torch.no_grad():
        steps = [net(tokens[:, :7], cache).logits, net(tokens[:, 7:10], cache).logits]
        steps += [net(tokens[:, i : i + 1], cache).logits for i in range(10, 24)]
        assert relative_error(torch.cat(steps, 1), net(tokens).logits) < 1e-4


def test_the_cache_holds_latents_only() -> None:
    net = random_network()
    assert net.new_cache(2, 10).nbytes == 2 * 10 * 3 * (16 + 8) * 4


def test_reordered_rows_continue_as_their_own() -> None:
    net, tokens = random_network().eval(), random_tokens(5, 2, 8)
    cache, rows = net.new_cache(2, 8), torch.tensor([1, 1, 0])
    with torch.no_grad():
        net(tokens[:, :7], cache)
        cache.reorder(rows)
        continued = net(tokens[rows, 7:], cache).logits[:, 0]
        assert relative_error(continued, net(tokens).logits[rows, 7]) < 1e-4


@pytest.mark.parametrize(("rows", "tokens"), [(1, 1), (1, 2), (2, 0)])
def test_what_does_not_fit_is_refused_and_changes_nothing(rows: int, tokens: int) -> None:
    """One token in the place of none would be written nowhere, without a word from PyTorch; so would one row in the place of two."""
    net, cache = random_network(), random_network().new_cache(1, 8)
    with torch.no_grad():
        net(random_tokens(1, 1, 8 if tokens else 4), cache)
        before = cache.length
        with pytest.raises(GenerationError, match="room for 1 rows of 8"):
            net(random_tokens(2, rows, tokens or 1), cache)
    assert cache.length == before


def test_a_cache_outlives_the_mode_in_which_it_was_made() -> None:
    net, tokens = random_network(), random_tokens(6, 1, 12)
    with torch.inference_mode():
        cache = net.new_cache(1, 12)
        net(tokens[:, :8], cache)
        net(tokens[:, 8:9], cache)
    with torch.no_grad():
        net(tokens[:, 9:10], cache)
    assert relative_error(net(tokens[:, 10:], cache).logits, net(tokens).logits[:, 10:]) < 1e-4


def test_decoding_with_gradients_on_keeps_no_graph_of_the_past() -> None:
    net, cache = random_network(), random_network().new_cache(1, 12)
    for start in range(0, 12, 4):
        out = net(random_tokens(7, 1, 12)[:, start : start + 4], cache).logits
    assert out.requires_grad and not cache.write(0, torch.zeros(1, 0, 24)).requires_grad


def test_a_rewound_cache_knows_nothing_of_the_adapter_before() -> None:
    net, tokens, rng = random_network(), random_tokens(8, 1, 10), np.random.default_rng(0)
    attach_adapters(net, AdapterConfig(), {})
    cache = net.new_cache(1, 16)
    for _ in range(2):
        load_adapter(net, {name: rng.normal(0, 0.5, values.shape).astype(np.float32) for name, values in adapter_state(net).items()})
        cache.rewind(0)
        assert torch.equal(net.generate(tokens, 6, cache=cache), net.generate(tokens, 6))
    cache.rewind(0)
    with torch.no_grad():
        steps = [net(tokens[:, :5], cache).logits, net(tokens[:, 5:], cache).logits]
        assert relative_error(torch.cat(steps, 1), net(tokens).logits) < 1e-4


def test_with_gradients_on_weights_are_absorbed_anew() -> None:
    cache, weight = random_network().new_cache(1, 4), torch.ones(2, requires_grad=True)
    with torch.no_grad():
        held = cache.absorbed(0, lambda: (weight * 1, weight * 2))
        assert cache.absorbed(0, lambda: (weight * 3, weight * 4))[0] is held[0]
    assert cache.absorbed(0, lambda: (weight * 3, weight * 4))[1].requires_grad
