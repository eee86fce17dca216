"""Decoding on the latent cache is the full forward, token by token."""

from __future__ import annotations

import pytest
import torch

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
