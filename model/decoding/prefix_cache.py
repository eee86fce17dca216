"""Latent caches of token prefixes that were read before, so that a longer prompt is read from where it is new."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict

from torch import Tensor

from model.cache import LatentCache
from model.transformer import DeepseekV3


class PrefixCache:
    """Up to `capacity_tokens` tokens' latents of one network, those of different adapters apart; the least recently used go first.

    Prefixes are found by comparing with each entry, which is meant for tens of them.
    """

    def __init__(self, net: DeepseekV3, capacity_tokens: int) -> None:
        self._net, self._capacity = net, capacity_tokens
        self._entries: OrderedDict[tuple[str, tuple[int, ...]], LatentCache] = OrderedDict()  # the last was used last

    @property
    def tokens(self) -> int:
        """Tokens held now."""
        return sum(len(ids) for _, ids in self._entries)

    def cached(self, ids: Tensor, adapter_sha256: str, max_length: int) -> tuple[LatentCache, int]:
        """A cache of the caller's own with room for max_length tokens, and how many of ids [1, t] it holds: at most t - 1."""
        wanted = tuple(ids[0].tolist())
        known, best = 0, None
        for key in self._entries:
            common = _common(wanted[:-1], key[1]) if key[0] == adapter_sha256 else 0
            if common > known:
                known, best = common, key
        if best is None:
            return self._net.new_cache(1, max_length), 0
        self._entries.move_to_end(best)
        return self._entries[best].prefix(known, max_length), known

    def store(self, ids: Tensor, adapter_sha256: str, cache: LatentCache) -> None:
        """Keeps a copy of what `cache` holds of ids [1, t], its first tokens, in place of the prefixes that it continues."""
        length = min(cache.length, self._capacity)
        new = tuple(ids[0, :length].tolist())
        for key in [key for key in self._entries if key[0] == adapter_sha256]:
            if key[1][:length] == new:
                self._entries.move_to_end(key)
                return
            if key[1] == new[: len(key[1])]:
                del self._entries[key]
        self._entries[adapter_sha256, new] = cache.prefix(length, length)
        while self.tokens > self._capacity:
            self._entries.popitem(last=False)


def adapter_sha256(net: DeepseekV3) -> str:
    """SHA-256 over names, shapes and bytes of the attached adapter, hexadecimal; "base" without one. To be taken anew when it changes."""
    if net.attached is None:
        return "base"
    from model.adapters import adapter_state

    digest = hashlib.sha256()
    for name, values in sorted(adapter_state(net).items()):
        digest.update(json.dumps([name, values.shape]).encode() + b"\0" + values.tobytes())
    return digest.hexdigest()


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
