"""Drafting with the multi-token prediction modules (DeepSeek-V3, sections 2.2 and 5.4.3).

A column belongs to one token x of a row: in it module j reads the embedding of x and what module j - 1 (the main network,
for j = 1) made of the column before, and predicts j tokens after that column's. So drafts need module 1 in the last certain
column, module 2 in the column of the first draft, and so on; beyond the last module, that module reads its own output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from model.attention import causal_mask
from model.cache import LatentCache
from model.decoding.generation import Sampling, probabilities
from model.decoding.slots import Slots
from model.layers import Rotation, rotation
from model.mtp import MTPModule

if TYPE_CHECKING:
    from model.transformer import DeepseekV3


class Drafter:
    """The modules on a latent cache of their own, which keeps certain tokens alone and has the slots of the main cache."""

    def __init__(self, net: DeepseekV3, slots: Slots, sampling: Sampling, draft_tokens: int, start: int) -> None:
        self._net, self._slots, self._sampling = net, slots, sampling
        self._modules = [cast(MTPModule, module) for module in net.mtp][:draft_tokens]
        layer, device = net.config.num_hidden_layers, net.model.embed_tokens.weight.device
        layers = range(layer, layer + len(self._modules))
        self.cache = LatentCache(net.config, slots.rows, slots.capacity, net.dtype, device, layers)
        self.cache.advance(start)  # never read: no module has seen what a prefix cache holds
        self._first: Tensor | int = slots.positions(start, start + 1) if start else 0
        nothing = torch.zeros(slots.rows, 1, net.config.hidden_size, dtype=net.dtype, device=device)
        self._last = [nothing] * len(self._modules)  # outputs in the last certain column

    def read(self, states: Tensor, tokens: Tensor, last: Tensor) -> None:
        """Reads columns that have become certain: main states [b, w, H], the token after each [b, w], each row's last column [b]."""
        past, width = self.cache.length, tokens.shape[1]
        embedding = self._net.model.embed_tokens(tokens).to(states.dtype)  # [b, w, H]
        turn = rotation(self._net.config, self._slots.positions(past, past + width), states.dtype)
        rows = torch.arange(len(tokens), device=tokens.device)
        for depth in range(len(self._modules)):
            made = self._run(depth, states, embedding, turn)
            states = torch.cat([self._last[depth], made[:, :-1]], 1)
            self._last[depth] = made[rows, last][:, None]
        self.cache.advance(width)

    def draft(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Drafts [b, count] of the next tokens and, if they are sampled, what they were drawn from [b, count, vocab]."""
        certain, modules, made = self.cache.length, len(self._modules), self._last
        positions = self._slots.following(count)
        token, proposal = self._choose(made[0])
        tokens, proposals = [token], [proposal]
        for column in range(1, count):
            embedding = self._net.model.embed_tokens(token)[:, None].to(self._net.dtype)
            turn = rotation(self._net.config, positions[:, column - 1 : column], embedding.dtype)
            sources = made[-1:] if column >= modules else made[column - 1 : -1]
            first = min(column, modules - 1)
            made = made[:first] + [self._run(first + i, source, embedding, turn) for i, source in enumerate(sources)]
            self.cache.advance(1)
            token, proposal = self._choose(made[first])
            tokens.append(token)
            proposals.append(proposal)
        self.cache.rewind(certain)
        return torch.stack(tokens, 1), torch.stack(cast(list[Tensor], proposals), 1) if self._sampling.temperature else None

    def _choose(self, made: Tensor) -> tuple[Tensor, Tensor | None]:
        logits = self._net.lm_head(made[:, -1])
        if self._sampling.temperature == 0:
            return logits.argmax(-1), None
        proposal = probabilities(logits, self._sampling)
        return torch.multinomial(proposal, 1, generator=self._sampling.generator)[:, 0], proposal

    def _run(self, depth: int, states: Tensor, embedding: Tensor, turn: Rotation) -> Tensor:
        past, width = self.cache.length, embedding.shape[1]
        # Depth j has no state for a row's first j - 1 columns.
        visible = self._slots.mask(past + width, self._first + depth)
        made: Tensor = self._modules[depth](states, embedding, turn, causal_mask(width, past, visible, embedding.device), self.cache)[0]
        return made
